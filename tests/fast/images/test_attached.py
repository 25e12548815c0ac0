"""Reports beside images in a real registry: found again, the latest counts, and the image itself never changes."""

import json
import time
import urllib.request

import onnx
import pytest
from e2e_small_model import classifier
from typer.testing import CliRunner

from gpuserve.cli.main import app
from gpuserve_images.errors import ImageError
from gpuserve_images.oci import File, Layer, bake, resolve
from gpuserve_images.oci.referrers import referrers
from gpuserve_images.verify.attached import REPORT, attach_report, attached_capacity, attached_report
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.differences import Parity
from gpuserve_images.verify.load_point import LoadPoint
from gpuserve_images.verify.report import VerifyReport
from gpuserve_images.verify.spec import SloSpec

POINT = LoadPoint(
    batch=1,
    concurrency=2,
    requests=9,
    seconds=1,
    requests_per_second=9,
    samples_per_second=9,
    mean_ms=1,
    median_ms=1,
    p95_ms=1,
    p99_ms=1,
    min_ms=1,
    max_ms=1,
    std_ms=0,
)


def report(rate):
    capacity = Capacity(where="a test", cores=2, latency_p95_ms=50, at_slo=rate, requests_at_slo=rate, points=(POINT,))
    return VerifyReport(model="small", build="fp32", capacity=capacity)


@pytest.fixture
def image(registry, request):
    name = f"{registry.host}/{request.node.name.replace('_', '-')}:1"
    return bake(name, [Layer({"/etc/a": File(b"a")})], annotations={"a": "b"}), name


def test_an_image_has_no_capacity_until_one_is_attached(image):
    baked, tag = image
    assert attached_capacity(baked.reference) is None
    attach_report(baked.reference, report(123.5))
    for address in (baked.reference, tag):
        found = attached_capacity(address)
        assert found.requests_at_slo == 123.5
        assert (found.where, found.latency_p95_ms, found.cores, found.points) == ("a test", 50, 2, ())


def test_the_image_keeps_its_digest(image):
    baked, tag = image
    attach_report(tag, report(1))
    assert resolve(tag).digest == baked.digest


def test_of_two_reports_the_later_one_counts(image):
    baked, _ = image
    for rate in (300, 100, 200):
        attach_report(baked.reference, report(rate))
        time.sleep(0.002)
    assert attached_capacity(baked.reference).requests_at_slo == 200


def test_the_whole_report_and_its_page_can_be_fetched(image, registry):
    baked, _ = image
    attached = attach_report(baked.reference, report(5))
    repository, digest = attached.removeprefix(f"{registry.host}/").split("@")
    request = urllib.request.Request(f"http://{registry.host}/v2/{repository}/manifests/{digest}")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the test made this address
        manifest = json.load(answer)
    assert (manifest["artifactType"], manifest["subject"]["digest"]) == (REPORT, baked.digest)
    files = {}
    for layer in manifest["layers"]:
        with urllib.request.urlopen(f"http://{registry.host}/v2/{repository}/blobs/{layer['digest']}") as answer:
            files[layer["annotations"]["org.opencontainers.image.title"]] = answer.read().decode()
    read = VerifyReport.model_validate_json(files["report.json"])
    assert (read.image, read.capacity.points) == (baked.reference, (POINT,))
    assert files["report.html"].startswith("<!doctype html>")


def test_a_report_of_speed_alone_is_completed(image):
    baked, _ = image
    parity = Parity(samples=9, batches=(1,), max_abs_error=1e-6, max_rel_error=1e-6, cosine=1, top1_agreement=1)
    ran = {"ran": {"sm_80": parity}, "ran_bars": {"cosine": 0.9999}}
    built = report(100).model_copy(
        update={"parity": parity, "bars": {"top1_agreement": 0.9}, "notes": ("whose they are",)} | ran
    )
    attach_report(baked.reference, built)
    attach_report(baked.reference, report(200).model_copy(update={"build": None}))
    last = attached_report(baked.reference)
    assert (last.build, last.parity, last.bars, last.capacity.at_slo) == ("fp32", parity, built.bars, 200)
    assert (last.notes, last.ran, last.ran_bars) == (built.notes, built.ran, built.ran_bars)
    # One of another build says nothing about this image's.
    attach_report(baked.reference, report(300).model_copy(update={"build": "int8"}))
    assert (attached_report(baked.reference).parity, attached_capacity(baked.reference).at_slo) == (None, 300)


PARITY = Parity(samples=9, batches=(1,), max_abs_error=1e-6, max_rel_error=1e-6, cosine=1, top1_agreement=1)


def built(**fields):
    return report(100).model_copy(update={"parity": PARITY, "bars": {"top1_agreement": 0.9}, **fields})


def speed(**fields):
    return report(200).model_copy(update={"build": None, **fields})


@pytest.fixture
def made(registry, request):
    """An image that says what it holds, with the report of its build."""
    name = f"{registry.host}/{request.node.name.partition('[')[0].replace('_', '-')}:1"
    annotations = {"io.gpuserve.model": "small", "io.gpuserve.build": "fp32"}
    baked = bake(name, [Layer({"/etc/a": File(b"a")})], annotations=annotations)
    attach_report(baked.reference, built())
    return baked.reference


@pytest.mark.parametrize(
    ("fields", "measured"),
    [
        ({"model": "other"}, "model other"),
        ({"model": "other", "build": "fp32"}, "build fp32 of model other"),
        ({"build": "int8"}, "build int8 of model small"),
    ],
)
def test_the_speed_of_something_else_is_not_attached(made, fields, measured):
    with pytest.raises(
        ImageError, match=f"holds build fp32 of model small, and what was measured is {measured}. Fix: Name the"
    ):
        attach_report(made, speed(**fields))
    assert attached_report(made).capacity.at_slo == 100


def test_what_is_known_of_the_image_is_never_lost(made, monkeypatch):
    attach_report(made, speed())
    last = attached_report(made)
    assert (last.build, last.parity, last.bars) == ("fp32", PARITY, {"top1_agreement": 0.9})
    # One that cannot be read, or says nothing of the image, hides none before it.
    monkeypatch.setattr("gpuserve_images.verify.attached._completed", lambda report, _: report)
    time.sleep(0.002)
    attach_report(made, speed())
    monkeypatch.undo()
    time.sleep(0.002)
    attach_report(made, speed())
    assert attached_report(made).parity == PARITY


def test_reports_of_two_models_are_not_mixed(image):
    baked, _ = image
    attach_report(baked.reference, built())
    attach_report(baked.reference, speed(model="other"))
    assert attached_report(baked.reference).parity is None


def test_a_capacity_is_read_at_another_promise(image):
    baked, _ = image
    points = tuple(
        POINT.model_copy(update={"concurrency": callers, "requests_per_second": rate, "p95_ms": p95})
        for callers, rate, p95 in ((1, 100.0, 10.0), (2, 150.0, 20.0), (4, 170.0, 60.0))
    )
    measured = Capacity.of(points, slo("50ms"), where="a test")
    attach_report(baked.reference, VerifyReport(model="small", capacity=measured))
    promised = {None: 150, "50ms": 150, "20ms": 150, "19ms": 100, "1s": 170, "1ms": None}
    found = {time: attached_capacity(baked.reference, slo(time) if time else None) for time in promised}
    assert {time: capacity.requests_at_slo for time, capacity in found.items()} == promised
    assert (found["19ms"].latency_p95_ms, found["19ms"].points, found["19ms"].where) == (19, (), "a test")


def slo(latency):
    return SloSpec.parse({"latency_p95": latency})


def test_a_report_without_a_capacity_says_nothing_about_it(image):
    baked, _ = image
    attach_report(baked.reference, VerifyReport(model="small"))
    assert len(referrers(baked.reference, artifact_type=REPORT)) == 1
    assert attached_capacity(baked.reference) is None


def test_an_image_that_is_not_there(registry):
    with pytest.raises(ImageError, match=r"is not in the registry\. Fix: Name an image that was pushed"):
        attach_report(f"{registry.host}/nothing:1", report(1))
    assert attached_capacity(f"{registry.host}/nothing:1") is None


def refuse(*_, **__):
    raise ImageError("registry", "is read only", "Ask for the right to write.")


def test_bench_attaches_what_it_measured(image, tmp_path, monkeypatch):
    baked, tag = image
    onnx.save(classifier(), tmp_path / "small.onnx")
    quick = ["--duration", "20ms", "--warm-up", "0s", "--concurrency", "1,2", "--json"]
    command = ["bench", str(tmp_path / "small.onnx"), *quick, "--attach"]
    result = CliRunner().invoke(app, [*command, tag])
    assert result.exit_code == 0, result.output
    assert f"attached to {tag} as {baked.reference.split('@')[0]}@sha256:" in result.stderr
    assert attached_capacity(tag).requests_at_slo == json.loads(result.stdout)["capacity"]["requests_at_slo"]
    annotations = {"io.gpuserve.model": "small", "io.gpuserve.build": "fp32"}
    other = bake(tag.replace(":1", ":3"), [Layer({"/etc/a": File(b"a")})], annotations=annotations).reference
    source = CliRunner().invoke(app, [*command, other])
    assert (source.exit_code, source.stdout) == (1, "")
    assert (
        "holds build fp32, and what would be measured is its source. Fix: give the model's YAML file and `--build"
        in source.stderr
    )
    (tmp_path / "small.onnx").rename(tmp_path / "big.onnx")
    another = CliRunner().invoke(app, ["bench", str(tmp_path / "big.onnx"), *quick, "--attach", other])
    assert "holds build fp32 of model small, and what was measured is model big" in another.stderr
    (tmp_path / "big.onnx").rename(tmp_path / "small.onnx")
    monkeypatch.setattr("gpuserve_images.verify.attached.attach", refuse)
    refused = CliRunner().invoke(app, [*command, tag])
    assert (refused.exit_code, "is read only" in refused.stderr) == (1, True)
    assert json.loads(refused.stdout)["capacity"]["points"]
    page = CliRunner().invoke(app, [*command[:-1], "--html", "/proc/r.html"])
    assert (page.exit_code, "--html = '/proc/r.html': cannot be written: " in page.stderr) == (1, True)
    assert json.loads(page.stdout)["capacity"]["points"]
    missing = CliRunner().invoke(app, [*command, tag.replace(":1", ":2")])
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert ":2': is not in the registry. Fix: name an image that was pushed" in missing.stderr
