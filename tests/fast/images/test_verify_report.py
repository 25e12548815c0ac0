"""The report: everything that was measured, readable by programs and people, and safe whatever the names are."""

import json
import re
from html.parser import HTMLParser
from typing import ClassVar
from xml.etree import ElementTree as ET

import pytest

from gpuserve_images.compile.inspection import EngineSummary
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.chart import Limit, Line, _scale, line_chart
from gpuserve_images.verify.differences import Parity
from gpuserve_images.verify.load_point import LoadPoint
from gpuserve_images.verify.report import VerifyReport, engines_not_run
from gpuserve_images.verify.spec import SloSpec

WILD = "</title><script>alert('x')</script>&\"<b>"


def point(batch, concurrency, rate=100.0, p95=9.0, errors=0):
    figures = {"mean_ms": 5.0, "median_ms": 4.0, "p99_ms": p95 + 1, "min_ms": 1.0, "max_ms": p95 + 2, "std_ms": 1.5}
    return LoadPoint(
        batch=batch,
        concurrency=concurrency,
        requests=1234,
        errors=errors,
        seconds=1,
        requests_per_second=rate,
        samples_per_second=rate * batch,
        p95_ms=p95,
        **figures,
    )


POINTS = (point(1, 1), point(1, 4, 300, 60), point(8, 1, 70, 20))


def report(points=POINTS, limit="50ms", name="small", **fields):
    slo = SloSpec.parse({"latency_p95": limit}) if limit else None
    parity = Parity(
        samples=32,
        batches=(1, 8),
        max_abs_error=0.5,
        max_rel_error=0.02,
        cosine=0.999,
        top1_agreement=0.97,
        disagreeing=(f"{name}.py",),
    )
    return VerifyReport(
        model=name,
        build="int8",
        parity=parity,
        bars={"top1_agreement": 0.99, "max_abs_error": 1.0},
        capacity=Capacity.of(points, slo, where=f"in process, {name}"),
        **fields,
    )


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_json_holds_everything_and_reads_back():
    written = report().model_dump_json()
    assert VerifyReport.model_validate_json(written) == report()
    assert json.loads(written)["capacity"]["points"][1]["p95_ms"] == 60


def test_the_page_shows_every_figure_and_loads_nothing():
    page = read(report(image="host/small@sha256:1").html())
    text = " ".join(page.text)
    for words in ("small int8", "host/small@sha256:1", "1,234", "60.00", "at least 0.99", "SLO p95", "small.py"):
        assert words in text
    assert page.addresses == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "prefers-color-scheme:dark" in text


class TestEngines:
    """Engines run on their own GPUs only: whoever reads figures is told whose they are."""

    ENGINES: ClassVar = {"sm_80": EngineSummary(source="network", layers={"SHUFFLE": 1}, precisions={"HALF": 1}, memory={})}

    def test_the_page_and_the_data_say_that_none_was_run(self):
        made = report(engines=self.ENGINES)
        said = "Engines that were not run: sm_80. Their differences are those of the ONNX file"
        assert said in " ".join(read(made.html()).text)
        assert json.loads(made.model_dump_json())["notes"] == [engines_not_run(["sm_80"])]
        assert VerifyReport.model_validate_json(made.model_dump_json()) == made

    def test_a_report_that_was_written_before_says_it_too(self):
        written = json.loads(report(engines=self.ENGINES).model_dump_json())
        del written["notes"]
        assert VerifyReport.model_validate_json(json.dumps(written)).notes == (engines_not_run(["sm_80"]),)

    def test_what_an_engine_differs_by_stands_beside_what_its_file_does(self):
        both = self.ENGINES | {"sm_90": self.ENGINES["sm_80"]}
        made = report(engines=both, ran={"sm_90": report().parity.model_copy(update={"max_abs_error": 0.015625})})
        assert made.notes == (engines_not_run(["sm_80"]),)
        text = " ".join(read(made.html()).text)
        assert "How near the engine for sm_90 is, on its GPU" in text
        assert "0.015625" in text
        all_ran = report(engines=both, ran=dict.fromkeys(both, report().parity))
        assert all_ran.notes == ()

    @pytest.mark.parametrize("changes", [{}, {"engines": ENGINES, "parity": None}])
    def test_nothing_is_said_where_there_is_no_engine_or_no_difference(self, changes):
        plain = VerifyReport.model_validate({"model": "small", "parity": report().parity} | changes)
        assert plain.notes == ()
        assert "were not run" not in plain.html()


def test_what_could_not_be_measured_is_told():
    capacity = Capacity.of(POINTS, None, where="a test", notes=("batch 8, concurrency 4: no <answer>",))
    assert "batch 8, concurrency 4: no <answer>" in read(VerifyReport(model="small", capacity=capacity).html()).text


def test_the_bar_that_scales_is_told():
    parity = report().parity.model_copy(update={"scaled_error": 3e-5})
    shown = read(report().model_copy(update={"parity": parity, "bars": {"scaled_error": 1e-4}}).html())
    assert "largest difference, of its output's largest value or of 1 3e-05 at most 0.0001" in " ".join(shown.text)


def test_what_agrees_is_told_by_output_where_there_are_several():
    one, two = ({"scores": 1.0}, {"scores": 1.0, "label<b>": 0.375})
    pages = [report().model_copy(update={"parity": report().parity.model_copy(update={"agreements": of})}) for of in (one, two)]
    assert "same class in output" not in pages[0].html()
    assert "same class in output label<b> 0.375" in " ".join(read(pages[1].html()).text)


def test_names_are_text_and_never_markup():
    html = report(name=WILD, image=WILD).html()
    page = read(html)
    assert "script" not in page.tags
    assert WILD in "".join(page.text)
    assert page.tags.count("title") == 1 + html.count("<circle")


def test_a_bar_that_is_missed_and_a_point_that_is_late_stand_out():
    html = report().html()
    assert re.search(r'class="bad">at least 0.99', html)
    assert re.search(r'class="good">at most 1<', html)
    assert re.findall(r"<td class=bad>([^<]*)", html) == ["60.00"]
    assert re.findall(r"<td class=bad>([^<]*)", report(points=(point(1, 1, errors=3),)).html()) == ["3"]


@pytest.mark.parametrize(
    ("points", "charts"),
    [
        ((point(1, 1),), 2),
        ((point(1, 1), point(1, 2)), 2),
        ((point(1, 1), point(8, 1)), 2),
        ((point(1, 1), point(1, 2), point(8, 1)), 4),
        (tuple(point(batch, callers) for batch in (1, 2, 4, 8, 16, 32, 64) for callers in (1, 2)), 4),
    ],
)
@pytest.mark.parametrize("limit", ["50ms", None])
def test_charts_are_well_formed_whatever_was_measured(points, charts, limit):
    drawn = re.findall(r"<svg.*?</svg>", report(points=points, limit=limit).html(), flags=re.DOTALL)
    assert len(drawn) == charts
    for chart in drawn:
        assert ET.fromstring(chart).get("role") == "img"  # noqa: S314 - what this program wrote


def test_no_capacity_says_none():
    html = report(points=(point(1, 1, p95=70),)).html()
    assert html.count('<b class="bad">none</b>') == 2


class TestChart:
    def places(self, chart: str) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', chart)]

    def test_larger_values_stand_higher_and_later_places_further_right(self):
        places = self.places(line_chart("t", ["1", "2", "4"], [Line("a", [10, 30, 20])], across="callers"))
        (x1, y1), (x2, y2), (x3, y3) = places
        assert x1 < x2 < x3
        assert y2 < y3 < y1
        assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)

    def test_a_gap_is_no_zero(self):
        assert len(self.places(line_chart("t", ["1", "2"], [Line("a", [10, None])], across="callers"))) == 1

    def test_a_far_limit_does_not_flatten_the_lines(self):
        near, far = (line_chart("t", ["1"], [Line("a", [10])], across="x", limit=Limit("SLO", value)) for value in (25, 1000))
        assert ("SLO" in near, "SLO" in far) == (True, False)

    def test_too_much_or_nothing_to_draw_is_refused(self):
        for lines in ([Line("a", [None])], [Line(str(number), [1]) for number in range(6)]):
            with pytest.raises(ValueError, match="1 to 5 lines"):
                line_chart("t", ["1"], lines, across="x")

    @pytest.mark.parametrize(
        ("largest", "top", "step"),
        [(1, 1, 0.2), (59, 60, 10), (61, 80, 20), (950, 1000, 200), (0.003, 0.003, 0.0005), (0, 1, 0.5)],
    )
    def test_axes_end_at_round_numbers(self, largest, top, step):
        assert _scale(largest) == pytest.approx((top, step))
