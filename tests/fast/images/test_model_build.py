"""A whole build against a real registry: once, reproducible, never half done, and never pushed when it is not good enough."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from e2e_small_model import write_model_folder

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.oci import File, Layer, bake, push_artifact, resolve
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.report import Summary
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError

pytestmark = pytest.mark.slow  # whole builds; test_cli_compile and test_model_resource are the quick ones


@pytest.fixture(scope="module")
def base(registry):
    return bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference


class Workshop:
    """A model folder, a registry path of its own and a cache of its own."""

    def __init__(self, root: Path, host: str, base: str) -> None:
        self.folder = write_model_folder(root / "model").parent
        self.cache = root / "cache"
        self.registry = f"{host}/{root.name}"
        self.base = base

    def change(self, **changes: object) -> None:
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def build(self, name="fp32", cache=None, **options: object):
        options = {"folder": self.folder, "registry": self.registry, "base": self.base, "cache": cache or self.cache} | options
        return build(load_model(self.folder / "small.yaml"), name, **options)

    def tags(self, host: str) -> list[str]:
        path = self.registry.removeprefix(f"{host}/")
        try:
            with urllib.request.urlopen(f"http://{host}/v2/{path}/small/tags/list") as answer:
                return json.load(answer)["tags"]
        except urllib.error.HTTPError:
            return []


@pytest.fixture
def workshop(tmp_path, registry, base, monkeypatch):
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    # The path is a repository name, which allows no capitals.
    root = tmp_path / f"w{abs(hash(tmp_path)) % 10**8}"
    root.mkdir()
    return Workshop(root, registry.host, base)


def blob(host: str, repository: str, digest: str) -> bytes:
    with urllib.request.urlopen(f"http://{host}/v2/{repository}/blobs/{digest}") as answer:
        return answer.read()


def manifest(reference: str) -> dict:
    host, rest = reference.split("/", 1)
    repository, digest = rest.split("@")
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{digest}")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the test made this address
        return json.load(answer)


def test_the_image_holds_the_repository_one_layer_per_file_on_the_base(workshop):
    report = workshop.build()
    assert report.reference.startswith(f"{workshop.registry}/small@sha256:")
    assert report.tag.endswith(report.summary.key[:40])
    document = manifest(report.reference)
    assert len(document["layers"]) == 3
    assert Summary.from_annotations(document["annotations"]) == report.summary
    assert [record.stage for record in report.records] == ["source", "optimise", "verify", "capacity", "layout"]
    assert report.capacity is not None


def test_the_second_build_is_one_request(workshop, registry):
    first = workshop.build()
    before = len(registry.requests())
    second = workshop.build()
    asked = registry.requests()[before:]
    assert [method for method, _, _ in asked] == ["GET"]
    assert (second.built, second.pushed, second.uploaded_bytes) == (False, False, 0)
    assert (second.reference, second.summary) == (first.reference, first.summary)


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_the_digest_is_reproducible(workshop, name, tmp_path):
    first = workshop.build(name)
    elsewhere = workshop.build(name, cache=tmp_path / "other", registry=f"{workshop.registry}/other")
    assert elsewhere.built
    assert first.digest == elsewhere.digest


def test_a_finished_build_is_pushed_again_without_building(workshop):
    first = workshop.build()
    again = workshop.build(registry=f"{workshop.registry}/second")
    assert (again.built, again.pushed) == (False, True)
    assert again.digest == first.digest


def test_a_changed_config_does_not_upload_the_weights_again(workshop):
    weights = workshop.build().uploaded_bytes
    workshop.change(batch={"max": 16, "queue_delay": "3ms"})
    changed = workshop.build()
    assert changed.built
    assert changed.uploaded_bytes < weights


def test_below_the_bar_nothing_is_pushed_or_kept(workshop, registry):
    workshop.change(verify={"inputs": "samples", "max_abs_error": 1e-9})
    with pytest.raises(
        ParityError, match=r"static INT8: max_abs_error is .*; dynamic INT8: max_abs_error is .*nothing was pushed"
    ):
        workshop.build("int8")
    assert workshop.tags(registry.host) == []


def test_dynamic_int8_where_parity_demands_it(workshop):
    # Ranges measured on next to nothing cut off most of the real values.
    calibrate = {"inputs": "samples", "method": "percentile", "percentile": 50.1}
    workshop.change(
        builds={"int8": {"engine": "onnxruntime", "precision": "int8", "calibrate": calibrate}},
        verify={"inputs": "samples", "top1_agreement": 0.95},
    )
    report = workshop.build("int8")
    assert report.summary.quantisation == "dynamic"
    # Both ways were measured; the source's answers to the samples were asked for once.
    assert [run.stage for run in report.stages] == ["quantise", "verify", "quantise", "verify", "capacity", "layout"]
    verify = [record for record in report.records if record.stage == "verify"][-1]
    assert "static INT8 missed a bar: top1_agreement" in verify.notes[0]


def test_engines_are_an_artifact_of_their_own(workshop):
    workshop.change(builds={"rtx": {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]}})
    report = workshop.build("rtx")
    document = manifest(report.reference)
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in document["layers"]]
    assert document["artifactType"] == "application/vnd.gpuserve.tensorrt-rtx.v1"
    assert titles == ["signature.json", "sm_80/model.engine", "sm_89/model.engine"]
    assert report.summary.architectures == ("sm_80", "sm_89")
    # Of the ONNX file that both engines were compiled from.
    assert report.summary.parity is not None
    assert report.summary.parity.max_abs_error < 1e-4
    one = workshop.build("rtx", target=Target("gpu", "sm_89"))
    assert one.summary.architectures == ("sm_89",)
    with pytest.raises(SpecError, match="makes no engine for sm_90"):
        workshop.build("rtx", target=Target("gpu", "sm_90"))


def test_a_registry_that_is_down_is_named_before_any_work(workshop):
    with pytest.raises(RegistryError, match=r"localhost:1.*Fix: "):
        workshop.build(registry="localhost:1/models")
    assert not workshop.cache.exists()


def test_somebody_elses_tag_is_not_taken_for_ours(workshop):
    tag = workshop.build().tag
    other = tag.replace("/small:", "/elsewhere/small:")
    push_artifact(other, {"a": File(b"a")}, artifact_type="text/plain")
    with pytest.raises(SourceError, match="was pushed by something else"):
        workshop.build(registry=f"{workshop.registry}/elsewhere")


BUILD = """
import sys
from pathlib import Path
from gpuserve_images.pipeline.build import build
from gpuserve_images.spec import load_model
folder, registry, base, cache = sys.argv[1:]
print(build(load_model(Path(folder, "small.yaml")), "int8", folder=Path(folder), registry=registry, base=base, cache=Path(cache)).built)
"""


def test_two_builds_at_once_do_the_work_once(workshop):
    arguments = [str(workshop.folder), workshop.registry, workshop.base, str(workshop.cache)]
    command = [sys.executable, "-c", BUILD, *arguments]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(one.communicate(timeout=120)[0].strip() for one in both) == ["False", "True"]


def test_the_registry_really_has_what_the_report_says(workshop):
    report = workshop.build()
    found = resolve(report.tag)
    assert found is not None
    assert found.reference == report.reference
    host, rest = report.reference.split("/", 1)
    config = json.loads(blob(host, rest.split("@")[0], manifest(report.reference)["config"]["digest"]))
    comments = [entry.get("comment", "") for entry in config["history"]]
    assert comments[-2:] == ["/models/small/config.pbtxt", "/models/small/1/model.onnx"]
