"""`ModelImage` as the engine sees it: what differs, what is built, what a refresh finds, how errors read."""

import asyncio
import traceback
from dataclasses import asdict
from typing import Any

import dill
import pulumi
import pytest
from e2e_event_loop import leave_nothing_on
from e2e_signing import key_pair
from e2e_small_model import write_model_folder
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.settings import set_root_resource

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import SourceError
from gpuserve_images.oci import File, Layer, bake, retries
from gpuserve_images.pipeline.key import content_key, image_reference
from gpuserve_images.pipeline.published import published
from gpuserve_images.resource import ImageProvider, ModelImage, plain_inputs
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.attached import attach_report, attached_capacity
from gpuserve_images.verify.capacity import Capacity, limit_ms
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.report import VerifyReport

pytestmark = pytest.mark.slow


@pytest.fixture
def props(tmp_path, registry, monkeypatch) -> dict[str, Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    folder = write_model_folder(tmp_path / "model").parent
    base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
    return inputs(folder, f"{registry.host}/models", base)


def inputs(folder, registry: str, base: str, build: str = "fp32") -> dict[str, Any]:
    model = load_model(folder / "small.yaml")
    return {
        "model": plain_inputs(model),
        "build": build,
        "folder": str(folder),
        "registry": registry,
        "target": {"kind": "cpu", "server": "triton"},
        "base": base,
        "key": content_key(model, build, folder=folder, target=Target(), base=base),
    }


PROVIDER = ImageProvider()


def test_the_provider_is_pickled_by_name_and_always_the_same():
    assert isinstance(dill.loads(dill.dumps(PROVIDER)), ImageProvider)  # noqa: S301 - what was dumped on the same line
    assert serialize_provider(ImageProvider()) == serialize_provider(ImageProvider())
    assert len(serialize_provider(PROVIDER)) < 200


def test_create_then_no_difference_then_read(props):
    assert PROVIDER.check({}, props).failures == []
    created = PROVIDER.create(props)
    state = created.outs or {}
    assert created.id.endswith(props["key"][:40])
    assert "@sha256:" in state["reference"]
    assert PROVIDER.diff(created.id, state, props).changes is False
    assert PROVIDER.diff(created.id, state, props | {"folder": "/somewhere/else"}).changes is False
    assert PROVIDER.diff(created.id, state, props | {"key": "0" * 64}).changes is True
    assert PROVIDER.diff(created.id, state, props | {"registry": "other/models"}).changes is True
    read = PROVIDER.read(created.id, state)
    assert (read.id, read.outs) == (created.id, state)


def test_the_measured_capacity_is_read_from_beside_the_image_and_a_later_one_wins(props):
    created = PROVIDER.create(props)
    state = created.outs or {}
    assert state["capacity"] == attached_capacity(state["reference"]).requests_at_slo > 0
    later = Capacity(where="the real server", latency_p95_ms=50, at_slo=9, requests_at_slo=7.5)
    attach_report(state["reference"], VerifyReport(model="small", build="fp32", capacity=later))
    assert PROVIDER.diff(created.id, state, props).changes is False
    assert (PROVIDER.read(created.id, state).outs or {})["capacity"] == 7.5


def test_an_image_that_an_autoscaler_aims_at_must_carry_a_capacity(props, tmp_path):
    path = tmp_path / "model" / "small.yaml"
    path.write_text(path.read_text() + "\nslo: {latency_p95: 0.001ms}\n")
    late = inputs(tmp_path / "model", props["registry"], props["base"])
    assert (PROVIDER.create(late).outs or {})["capacity"] is None
    measured = late | {"measured": True}
    with pytest.raises(SpecError, match="small, build fp32: scale target: is to be taken from the measured capacity") as caught:
        PROVIDER.create(measured)
    reference = published(image_reference(load_model(path), late["key"], late["registry"])).reference
    assert f"gpuserve bench MODEL --attach {reference}` (with" in str(caught.value)
    # Once it is there, the preview says so; what is unchanged is not asked about.
    (failure,) = PROVIDER.check({}, measured).failures
    assert failure.reason == str(caught.value)
    assert PROVIDER.check(late, measured).failures == []
    promise = {"latency_p95_ms": late_ms(late), "requests_at_slo": 3}
    attach_report(reference, VerifyReport(model="small", capacity=Capacity(where="a test", **promise)))
    assert PROVIDER.check({}, measured).failures == []
    created = PROVIDER.create(measured)
    state = created.outs or {}
    assert state["capacity"] == 3
    # Another promise is another capacity of the same image.
    path.write_text(path.read_text().replace("0.001ms", "1h"))
    other = inputs(tmp_path / "model", props["registry"], props["base"])
    assert other["key"] == late["key"]
    assert PROVIDER.diff(created.id, state, other).changes is False
    assert PROVIDER.diff(created.id, state, measured).changes is False
    assert PROVIDER.diff(created.id, state, other | {"measured": True}).changes is True


def late_ms(props) -> float:
    return limit_ms(ModelSpec.parse(props["model"]).slo)


def test_what_no_build_times_is_refused_before_it_is_built(props, tmp_path):
    assert PROVIDER.check({}, props | {"measured": True}).failures == []
    target = Target(kind="gpu", architecture="sm_86")
    key = content_key(
        load_model(tmp_path / "model/small.yaml"), "fp32", folder=tmp_path / "model", target=target, base=props["base"]
    )
    gpu = props | {"target": plain_inputs(asdict(target)), "key": key}
    assert PROVIDER.check({}, gpu).failures == []
    (failure,) = PROVIDER.check({}, gpu | {"measured": True}).failures
    assert failure.property == "measured"
    assert f"/small:{key[:40]} carries none" in failure.reason


def test_a_vanished_image_is_gone_after_a_refresh(props):
    state = PROVIDER.create(props).outs or {}
    assert PROVIDER.read("id", state | {"key": "f" * 64}).id == ""


def test_update_builds_the_new_content_and_keeps_the_old(props, tmp_path):
    old = PROVIDER.create(props)
    path = tmp_path / "model" / "small.yaml"
    path.write_text(path.read_text().replace("max: 16", "max: 8"))
    new = inputs(tmp_path / "model", props["registry"], props["base"])
    updated = PROVIDER.update(old.id, old.outs or {}, new).outs or {}
    assert updated["reference"] != (old.outs or {})["reference"]
    assert PROVIDER.read(old.id, old.outs or {}).id == old.id


@pytest.fixture
def impatient(monkeypatch):
    """Whoever is refused does not wait long."""
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.01)


def test_a_registry_that_is_down_is_found_by_the_check(props, impatient):
    (down,) = PROVIDER.check({}, props | {"registry": "localhost:1/models"}).failures
    assert (down.property, "is down" in down.reason) == ("registry", True)


def test_a_new_registry_of_an_unchanged_image_is_asked_in_the_preview(props, impatient):
    (down,) = PROVIDER.check(props, props | {"registry": "localhost:1/models"}).failures
    assert (down.property, "is down" in down.reason) == ("registry", True)


def test_a_newly_named_signer_is_looked_for_in_the_preview(props):
    """What an image must be signed with is no part of its key: the same image is refused once the model names a signer."""
    PROVIDER.create(props)
    sign = {"key": "env://NOT_AT_HAND", "public_key": key_pair()[1]}
    named = props | {"model": props["model"] | {"bake": {"sign": sign}}}
    (refused,) = PROVIDER.check(props, named).failures
    assert refused.property == "model"
    assert "is not signed" in refused.reason
    assert PROVIDER.check(named, named).failures == []


def test_a_stricter_promise_of_an_unchanged_image_is_measured_against_in_the_preview(props):
    props |= {"registry": f"{props['registry']}/promises", "measured": True}  # where no other test attached what it measured
    lax, strict = (props | {"model": props["model"] | {"slo": {"latency_p95": promise}}} for promise in ("1h", "0.001ms"))
    PROVIDER.create(lax)
    assert PROVIDER.check(strict, lax).failures == []
    (unmeasured,) = PROVIDER.check(lax, strict).failures
    assert unmeasured.property == "measured"


def test_files_that_changed_since_the_program_saw_them_are_not_built(props, tmp_path):
    with pytest.raises(
        SourceError, match="small, build fp32: the model or its samples changed while this program ran"
    ) as caught:
        PROVIDER.create(props | {"key": "0" * 64})
    assert "run it again" in str(caught.value).lower()
    state = PROVIDER.create(props).outs or {}
    with pytest.raises(SourceError, match="changed while this program ran"):
        PROVIDER.update("id", state, props | {"key": "0" * 64})
    assert published(image_reference(load_model(tmp_path / "model/small.yaml"), "0" * 64, props["registry"])) is None
    (tmp_path / "model" / "small.onnx").write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        PROVIDER.create(props)


def test_the_files_are_not_read_again_to_ask_about_an_image(props, tmp_path):
    (tmp_path / "model" / "small.onnx").unlink()
    assert PROVIDER.check({}, props).failures == []


def test_an_unchanged_image_needs_no_registry_in_a_preview(props):
    unreachable = props | {"registry": "localhost:1/models"}
    assert PROVIDER.check(unreachable, unreachable).failures == []


def test_a_failed_build_reads_as_one_sentence(props, tmp_path, monkeypatch):
    path = tmp_path / "model" / "small.yaml"
    path.write_text(path.read_text().replace("top1_agreement: 0.9", "max_abs_error: 1.0e-09"))
    bad = inputs(tmp_path / "model", props["registry"], props["base"], "int8")
    monkeypatch.delenv("GPUSERVE_DEBUG", raising=False)
    with pytest.raises(ParityError) as caught:
        PROVIDER.create(bad)
    text = "".join(traceback.format_exception(caught.value))
    assert "nothing was pushed" in text
    assert "File " not in text
    assert "exception" not in text


class Mocks(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.made: dict[str, pulumi.runtime.MockResourceArgs] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict]:
        self.made[args.typ] = args
        return f"{args.name}-id", dict(args.inputs) | {
            "reference": "registry/small@sha256:0",
            "signature": "{}",
            "parity": "null",
        }

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict:
        return {}


@pytest.fixture
def mocks():
    made = Mocks()
    asyncio.set_event_loop(asyncio.new_event_loop())
    # The stack belongs to a loop: neither another test's here, nor this one's there.
    set_root_resource(None)
    pulumi.runtime.set_mocks(made, project="p", stack="s")
    yield made
    set_root_resource(None)
    leave_nothing_on(asyncio.get_event_loop(), cancel=True)


def test_the_component_knows_key_and_tag_at_plan_time(mocks, props, tmp_path):
    folder = tmp_path / "model"
    model = load_model(folder / "small.yaml")
    image = ModelImage("fp32", model, build="fp32", folder=folder, registry=props["registry"], base=props["base"])
    assert image.key == props["key"]
    assert image.tag == image_reference(model, image.key, props["registry"])
    loop = asyncio.get_event_loop()
    assert loop.run_until_complete(image.reference.future()) == "registry/small@sha256:0"
    component = mocks.made["gpuserve:index:ModelImage"]
    child = mocks.made["pulumi-python:dynamic/gpuserve:Image"]
    assert component.name == "fp32"
    assert {**child.inputs, "__provider": None} == {**props, "__provider": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"build": "fp64"}, "no such build"),
        ({"model": {"name": "x"}}, "source: is required but missing"),
        ({"model": "truncated"}, "truncated ONNX file"),
    ],
)
def test_wrong_arguments_end_the_program_without_a_traceback(mocks, props, tmp_path, changes, words):
    folder = tmp_path / "model"
    model: Any = changes.get("model", load_model(folder / "small.yaml"))
    if model == "truncated":
        (folder / "small.onnx").write_bytes((folder / "small.onnx").read_bytes()[:200])
        model = load_model(folder / "small.yaml")
    with pytest.raises(pulumi.RunError, match=words):
        ModelImage("x", model, build=changes.get("build", "fp32"), folder=folder, registry=props["registry"])
