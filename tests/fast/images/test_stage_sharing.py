"""Stages in a real registry: what one machine made, another does not make again; a registry that fails only costs the saving."""

import json
import urllib.request
from pathlib import Path

import pytest
import yaml
from e2e_small_model import write_model_folder

from gpuserve_images.oci import File, Layer, bake, push_artifact
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.sharing import STAGE_ARTIFACT, StageShare
from gpuserve_images.pipeline.stage import Stage, Work
from gpuserve_images.pipeline.store import write_record
from gpuserve_images.records import StageRecord
from gpuserve_images.spec import load_model

pytestmark = pytest.mark.slow  # whole builds; test_cli_compile and test_model_resource are the quick ones


@pytest.fixture
def repository(registry, tmp_path):
    return f"{registry.host}/t{abs(hash(tmp_path)) % 10**9}/small/stages"


def writes(work: Work) -> StageRecord:
    (work.out / "deep").mkdir()
    (work.out / "deep/file").write_text("deep")
    (work.out / "model.onnx").write_text("one")
    return StageRecord(stage="write", notes=("a note",))


STAGE = Stage("write", writes, options={"n": 1})


def worth(monkeypatch) -> None:
    """Share even what is quicker made than fetched."""
    monkeypatch.setattr("gpuserve_images.pipeline.runner.WORTH_BYTES_PER_SECOND", float("inf"))


def share(repository: str, notes: list[str] | None = None) -> StageShare:
    return StageShare(repository, (notes if notes is not None else []).append)


def test_another_machine_takes_the_files_and_the_record(tmp_path, repository, monkeypatch):
    worth(monkeypatch)
    found = []
    for machine in ("a", "b"):
        with Runner(tmp_path / machine, share(repository)) as runner:
            found.append(runner.get(STAGE))
    assert [done.origin for done in found] == ["made", "registry"]
    assert found[0].record == found[1].record
    assert found[0].seconds == found[1].seconds
    assert (found[1].folder / "deep/file").read_text() == "deep"


def test_a_stage_of_this_machine_alone_is_not_shared(tmp_path, repository, registry, monkeypatch):
    worth(monkeypatch)
    before = len(registry.requests())
    with Runner(tmp_path, share(repository)) as runner:
        runner.get(Stage("time", writes, shared=False))
    assert len(registry.requests()) == before


def test_what_is_quicker_made_than_fetched_is_not_shared(tmp_path, repository, registry, monkeypatch):
    monkeypatch.setattr("gpuserve_images.pipeline.runner.WORTH_BYTES_PER_SECOND", 0.0)
    with Runner(tmp_path, share(repository)) as runner:
        runner.get(STAGE)
    assert not [request for request in registry.requests() if repository.split("/", 1)[1] in request[1] and request[0] != "GET"]


def test_a_registry_that_is_down_is_a_miss_with_one_note(tmp_path, monkeypatch):
    worth(monkeypatch)
    monkeypatch.setattr("gpuserve_images.oci.retries._FIRST_WAIT_SECONDS", 0.0)
    notes: list[str] = []
    with Runner(tmp_path, share("localhost:1/small/stages", notes)) as runner:
        assert runner.get(STAGE).origin == "made"
        assert runner.get(Stage("write", writes, options={"n": 2})).origin == "made"
    assert len(notes) == 1
    assert "finished stages are not looked up" in notes[0]


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../escape"])
def test_a_file_that_leads_out_of_the_folder_is_refused(tmp_path, repository, monkeypatch, name):
    worth(monkeypatch)
    notes: list[str] = []
    shared = share(repository, notes)
    # Others' programs push what ours refuses to.
    monkeypatch.setattr("gpuserve_images.oci.artifact._require_relative", lambda _: None)
    push_artifact(shared.tag(STAGE.name, STAGE.key), {name: File(b"evil")}, artifact_type=STAGE_ARTIFACT)
    with Runner(tmp_path / "cache", shared) as runner:
        assert runner.get(STAGE).origin == "made"
    assert "leads out of its folder" in notes[0]
    assert not list(tmp_path.rglob("*escape*"))


def test_another_stages_files_under_the_tag_are_a_miss(tmp_path, repository):
    other = tmp_path / "other"
    other.mkdir()
    write_record(other, "f" * 64, StageRecord(stage="other"), 1)
    shared = share(repository)
    push_artifact(shared.tag(STAGE.name, STAGE.key), {"record.json": File(other / "record.json")}, artifact_type=STAGE_ARTIFACT)
    with Runner(tmp_path / "cache", shared) as runner:
        done = runner.get(STAGE)
    assert done.origin == "made"
    assert sorted(path.name for path in done.folder.iterdir()) == ["deep", "model.onnx", "record.json"]


class Machines:
    """One model and one registry, built on machines with caches of their own."""

    def __init__(self, root: Path, host: str) -> None:
        self.root = root
        self.folder = write_model_folder(root / "model").parent
        self.registry = f"{host}/m{abs(hash(root)) % 10**9}"
        self.host = host
        self.base = bake(f"{host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference

    def build(self, machine: str, name: str = "int8", **changes: object):
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
        where = {"folder": self.folder, "registry": self.registry, "base": self.base, "cache": self.root / machine}
        return build(load_model(path), name, **where)

    def forget(self, reference: str) -> None:
        host, rest = reference.split("/", 1)
        repository, digest = rest.split("@")
        address = f"http://{host}/v2/{repository}/manifests/{digest}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"))


@pytest.fixture
def machines(tmp_path, registry, monkeypatch):
    worth(monkeypatch)
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    return Machines(tmp_path, registry.host)


def origins(report) -> dict[str, str]:
    return {run.stage: run.origin for run in report.stages}


def test_a_second_machine_does_no_work_that_can_be_shared(machines):
    first = machines.build("a")
    assert set(origins(first).values()) == {"made"}
    # Another base: another image, of the same stages.
    machines.base = bake(f"{machines.host}/base:2", [Layer({"/etc/base": File(b"other")})]).reference
    second = machines.build("b")
    assert second.tag != first.tag
    assert origins(second) == {
        "quantise": "registry",
        "verify": "registry",
        "layout": "registry",
        "capacity": "made",
    }
    assert second.summary.parity == first.summary.parity


def test_a_late_change_runs_only_what_comes_after_it(machines):
    machines.build("a")
    batch = machines.build("a", batch={"max": 16, "queue_delay": "9ms"})
    assert origins(batch) == {"quantise": "local", "verify": "local", "capacity": "local", "layout": "made"}
    assert batch.built
    bar = machines.build("b", verify={"inputs": "samples", "top1_agreement": 0.85})
    assert origins(bar) == {"quantise": "registry", "verify": "registry", "capacity": "made", "layout": "registry"}


def test_the_stages_lie_next_to_the_image(machines):
    machines.build("a")
    path = machines.registry.split("/", 1)[1]
    with urllib.request.urlopen(f"http://{machines.host}/v2/{path}/small/stages/tags/list") as answer:
        names = sorted(tag.split("-")[0] for tag in json.load(answer)["tags"])
    assert names == ["layout", "quantise", "verify"]
