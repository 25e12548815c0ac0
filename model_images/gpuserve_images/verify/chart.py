"""A line chart as SVG inside HTML.

Written here because it is a page of arithmetic. A plotting library is much more than that (matplotlib needs eight other packages, a font
engine and an image library among them), and its pictures do not follow the reader's light or dark mode.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 92, 16, 44
LABEL_GAP = 13
"""Pixels that labels at the ends of lines keep from each other."""

SERIES = 5
"""Colours of the page's style sheet; a chart with more lines would not be readable."""

STYLE = """
svg.chart{width:100%;height:auto;font:12px system-ui,sans-serif}
svg.chart .axis{stroke:var(--line);stroke-width:1}
svg.chart .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 4}
svg.chart text{fill:var(--soft)}
svg.chart text.limit-text{fill:var(--bad)}
svg.chart .s0{--c:#0068a8}svg.chart .s1{--c:#c25400}svg.chart .s2{--c:#00805c}svg.chart .s3{--c:#a8487c}svg.chart .s4{--c:#5c5c5c}
svg.chart path.s{fill:none;stroke:var(--c);stroke-width:2}
svg.chart circle.s{fill:var(--c)}
svg.chart text.s{fill:var(--c);font-weight:600}
@media(prefers-color-scheme:dark){
svg.chart .s0{--c:#6cc0f5}svg.chart .s1{--c:#ffa45c}svg.chart .s2{--c:#4fd6ac}svg.chart .s3{--c:#f0a3cd}svg.chart .s4{--c:#c8c8c8}}
"""
"""Style of the charts; the page defines `--line`, `--soft` and `--bad`."""


@dataclass(frozen=True)
class Line:
    """One line of a chart: a value, or None where there is none, for each place on the horizontal axis."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Limit:
    """A value that must not be passed, drawn across the chart."""

    name: str
    value: float


def line_chart(title: str, places: Sequence[str], lines: Sequence[Line], *, across: str, limit: Limit | None = None) -> str:
    """Return a chart as an `<svg>` element.

    Args:
        title: What it shows, with the unit; read out by screen readers.
        places: Names of the places on the horizontal axis, which are equally far apart.
        lines: At most `SERIES` lines.
        across: What the horizontal axis is.
        limit: A bound. It stretches the chart only when it is within three times the largest value, lest it flatten the lines.

    Raises:
        ValueError: When there are too many lines, or nothing to draw.
    """
    values = [value for line in lines for value in line.values if value is not None]
    if len(lines) > SERIES or not values:
        msg = f"a chart has 1 to {SERIES} lines with values, not {len(lines)} lines with {len(values)} values"
        raise ValueError(msg)
    shown = limit if limit and limit.value <= 3 * max(values) else None
    top, step = _scale(max([*values, shown.value] if shown else values))
    chart = _Chart(places, top)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *chart.grid(step),
        *chart.foot(across),
        *(chart.limit(shown) if shown else ()),
        *(part for number, line in enumerate(lines) for part in chart.line(number, line)),
        *chart.names(lines),
        "</svg>",
    ]
    return "".join(parts)


@dataclass(frozen=True)
class _Chart:
    places: Sequence[str]
    top: float

    def x(self, index: int) -> float:
        inside = WIDTH - LEFT - RIGHT
        return LEFT + inside * (0.5 if len(self.places) == 1 else index / (len(self.places) - 1))

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.top)

    def grid(self, step: float) -> Iterator[str]:
        for number in range(round(self.top / step) + 1):
            y = self.y(number * step)
            yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(number * step)}</text>'

    def foot(self, across: str) -> Iterator[str]:
        for index, place in enumerate(self.places):
            yield f'<text x="{self.x(index):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(place)}</text>'
        yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'

    def limit(self, limit: Limit) -> Iterator[str]:
        y = self.y(limit.value)
        yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="limit-text" x="{LEFT + 4}" y="{y - 5:.1f}">{escape(limit.name)}</text>'

    def line(self, number: int, line: Line) -> Iterator[str]:
        known = [(index, value) for index, value in enumerate(line.values) if value is not None]
        path = " ".join(f"{'L' if number else 'M'}{self.x(i):.1f} {self.y(v):.1f}" for number, (i, v) in enumerate(known))
        yield f'<path class="s s{number}" d="{path}"/>'
        for index, value in known:
            about = escape(f"{line.name}, {self.places[index]}: {value:,.6g}")
            yield f'<circle class="s s{number}" cx="{self.x(index):.1f}" cy="{self.y(value):.1f}" r="3.5"><title>{about}</title></circle>'

    def names(self, lines: Sequence[Line]) -> Iterator[str]:
        """Yield each line's name at its end, moved down where it would lie on another's."""
        ends: list[tuple[float, int, str]] = []
        for number, line in enumerate(lines):
            known = [value for value in line.values if value is not None]
            if known:
                ends.append((self.y(known[-1]), number, line.name))
        lowest = float("-inf")
        for y, number, name in sorted(ends):
            lowest = max(y, lowest + LABEL_GAP)
            yield f'<text class="s s{number}" x="{WIDTH - RIGHT + 10}" y="{lowest + 4:.1f}">{escape(name)}</text>'


def _scale(largest: float) -> tuple[float, float]:
    """Return the top of an axis and the distance of its lines: 1, 2 or 5 times a power of ten, three to six of them."""
    if largest <= 0:
        return 1.0, 0.5
    power = 10.0 ** floor(log10(largest))
    step = next(factor * power for factor in (0.2, 0.5, 1.0, 2.0) if largest <= 6 * factor * power)
    return step * -int(-largest // step), step


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:.3g}"
