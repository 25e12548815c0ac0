"""The report as a page: one HTML file without scripts that loads nothing."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from gpuserve_images.compile.inspection import EngineSummary
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.chart import SERIES, STYLE, Limit, Line, line_chart
from gpuserve_images.verify.differences import Parity
from gpuserve_images.verify.load_point import LoadPoint

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#57606a;--line:#d8dee4;--good:#1a7f37;--bad:#cf222e;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--soft:#9da7b1;--line:#30363d;--good:#4ac26b;--bad:#ff7b72;--card:#161b22}}
body{background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1000px;padding:24px 16px}
h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.15rem;margin:32px 0 8px}h3{font-size:.95rem;margin:8px 0 4px;font-weight:600}
p{margin:4px 0;color:var(--soft);overflow-wrap:anywhere}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px;min-width:150px}
.card b{display:block;font-size:1.35rem}.card span{color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:16px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}
"""

_PARITY = {
    "top1_agreement": ("same class (top-1)", "at least"),
    "top5_agreement": ("class among the best five (top-5)", "at least"),
    "max_abs_error": ("largest difference", "at most"),
    "scaled_error": ("largest difference, of its output's largest value or of 1", "at most"),
    "max_rel_error": ("largest difference, relative", "at most"),
    "cosine": ("least cosine similarity", "at least"),
}

_COLUMNS = (
    ("batch", "batch"),
    ("concurrency", "callers"),
    ("requests", "requests"),
    ("errors", "errors"),
    ("requests_per_second", "requests/s"),
    ("samples_per_second", "samples/s"),
    ("mean_ms", "mean ms"),
    ("median_ms", "median ms"),
    ("p95_ms", "p95 ms"),
    ("p99_ms", "p99 ms"),
    ("min_ms", "min ms"),
    ("max_ms", "max ms"),
    ("std_ms", "std ms"),
)


def page(  # noqa: PLR0913, PLR0917 - one parameter per part of the page
    facts: Mapping[str, str],
    parity: Parity | None,
    bars: Mapping[str, float],
    capacity: Capacity | None,
    engines: Mapping[str, EngineSummary] = {},
    notes: Sequence[str] = (),
    ran: Mapping[str, Parity] = {},
    ran_bars: Mapping[str, float] = {},
) -> str:
    """Return the page.

    Args:
        facts: What was measured: `model` and more, by name.
        parity: Differences from the source model.
        bars: Bars of the differences.
        capacity: Speed.
        engines: What engines are made of, by GPU architecture.
        notes: What a reader must know of these figures.
        ran: Differences of engines that were run, by GPU architecture.
        ran_bars: Bars of those.
    """
    title = " ".join(facts[name] for name in ("model", "build") if name in facts)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(name)}: {escape(value)}</p>" for name, value in facts.items() if name not in {"model", "build"}),
        *(f"<p><b>{escape(note)}</b></p>" for note in notes),
        *(_parity("How near to its source", parity, bars) if parity else ()),
        *(
            line
            for name, own in ran.items()
            for line in _parity(f"How near the engine for {name} is, on its GPU", own, ran_bars)
        ),
        *(_capacity(capacity) if capacity else ()),
        *(_engines(engines) if engines else ()),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _parity(title: str, parity: Parity, bars: Mapping[str, float]) -> Iterator[str]:
    yield f"<h2>{escape(title)}</h2>"
    sizes = ", ".join(map(str, parity.batches))
    yield f"<p>{parity.samples} samples at batch sizes {sizes}; the worst over all outputs and sizes.</p>"
    yield '<div class="scroll"><table><tr><th>measure</th><th>value</th><th>bar</th></tr>'
    for name, (words, bound) in _PARITY.items():
        value = getattr(parity, name)
        if value is None:
            continue
        bar = bars.get(name)
        met = bar is None or (value >= bar if bound == "at least" else value <= bar)
        told = "none" if bar is None else f'<span class="{"good" if met else "bad"}">{bound} {bar:g}</span>'
        yield f"<tr><td>{words}</td><td>{value:.6g}</td><td>{told}</td></tr>"
    if len(parity.agreements) > 1:
        for output, share in parity.agreements.items():
            yield f"<tr><td>same class in output {escape(output)}</td><td>{share:.6g}</td><td></td></tr>"
    yield f"<tr><td>source against itself at other batch sizes</td><td>{parity.source_batch_error:.6g}</td><td></td></tr>"
    if parity.source_scaled_error is not None:
        words = "source itself in ONNX Runtime, of its output's largest value or of 1"
        yield f"<tr><td>{words}</td><td>{parity.source_scaled_error:.6g}</td><td></td></tr>"
    yield "</table></div>"
    if parity.disagreeing:
        yield f"<p>For example: {escape(', '.join(parity.disagreeing))}</p>"


def _capacity(capacity: Capacity) -> Iterator[str]:
    yield "<h2>How fast</h2>"
    yield f"<p>{escape(capacity.where)}</p>"
    yield from (f"<p><b>{escape(note)}</b></p>" for note in capacity.notes)
    bound = f"p95 within {capacity.latency_p95_ms:g} ms" if capacity.latency_p95_ms is not None else "no latency promised"
    yield '<div class="cards">'
    for value, unit in ((capacity.requests_at_slo, "requests/s"), (capacity.at_slo, "samples/s")):
        shown = '<b class="bad">none</b>' if value is None else f"<b>{value:,.1f}</b>"
        yield f'<div class="card">{shown}<span>{unit} at most, {bound}</span></div>'
    yield "</div>"
    if not capacity.points:
        return
    yield f'<div class="charts">{"".join(_charts(capacity))}</div>'
    yield '<div class="scroll"><table><tr>' + "".join(f"<th>{words}</th>" for _, words in _COLUMNS) + "</tr>"
    for point in capacity.points:
        late = capacity.latency_p95_ms is not None and point.p95_ms > capacity.latency_p95_ms
        marks = {"p95_ms": late, "errors": point.errors > 0}
        cells = (f"<td{' class=bad' if marks.get(name) else ''}>{_number(getattr(point, name))}</td>" for name, _ in _COLUMNS)
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def _engines(engines: Mapping[str, EngineSummary]) -> Iterator[str]:
    yield "<h2>What its engines are made of</h2>"
    asked = {engine.source for engine in engines.values()}
    if "network" in asked:
        yield "<p>As the builder was given it, before it fused layers: the finished engine can be asked on its own GPU only.</p>"
    yield '<div class="scroll"><table><tr><th>GPU</th><th>layers</th><th>of these types</th><th>memory</th></tr>'
    for name, engine in engines.items():
        types = ", ".join(f"{count} {kind}" for kind, count in engine.precisions.items())
        memory = ", ".join(f"{use} {size / 2**20:,.1f} MiB" for use, size in engine.memory.items() if size)
        cells = (escape(name), str(sum(engine.layers.values())), escape(types), escape(memory))
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</table></div>"


def _charts(capacity: Capacity) -> Iterator[str]:
    points = capacity.points
    batches = sorted({point.batch for point in points})
    callers = sorted({point.concurrency for point in points})
    by_place = {(point.batch, point.concurrency): point for point in points}
    limit = Limit("SLO p95", capacity.latency_p95_ms) if capacity.latency_p95_ms is not None else None
    if len(callers) > 1:
        of_batches = {
            f"batch {batch}": [by_place.get((batch, number)) for number in callers]
            for batch in batches
            if sum((batch, number) in by_place for number in callers) > 1
        }
        yield from _pair(of_batches, callers, "callers at the same time", limit)
    if len(batches) > 1:
        few = callers[0]
        name = "one caller" if few == 1 else f"{few} callers"
        yield from _pair({name: [by_place.get((batch, few)) for batch in batches]}, batches, "batch size", limit)
    if len(callers) == len(batches) == 1:
        yield from _pair({f"batch {batches[0]}": list(points)}, callers, "callers at the same time", limit)


def _pair(
    lines: Mapping[str, Sequence[LoadPoint | None]], places: Sequence[int], across: str, limit: Limit | None
) -> Iterator[str]:
    """Yield a chart of throughput and one of latency; the lines above the number of colours are left to the table."""
    drawn = dict(list(lines.items())[:SERIES])
    names = [str(place) for place in places]
    throughput = [Line(name, [point and point.samples_per_second for point in points]) for name, points in drawn.items()]
    if len(drawn) == 1:
        points = next(iter(drawn.values()))
        quantiles = {"p99": "p99_ms", "p95": "p95_ms", "median": "median_ms"}
        latency = [Line(name, [point and getattr(point, field) for point in points]) for name, field in quantiles.items()]
    else:
        latency = [Line(name, [point and point.p95_ms for point in points]) for name, points in drawn.items()]
    what = "latency, ms" if len(drawn) == 1 else "latency p95, ms"
    for title, series, bound in (("throughput, samples/s", throughput, None), (what, latency, limit)):
        yield f"<div><h3>{title}</h3>{line_chart(f'{title}, by {across}', names, series, across=across, limit=bound)}</div>"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
