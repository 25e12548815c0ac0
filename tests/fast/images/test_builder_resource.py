"""`ModelImage` with builder `job`: what is refused in a preview, what the state knows, where the log goes."""

import tempfile
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pulumi
import pytest
import yaml
from e2e_played_cluster import PlayedCluster, pod
from e2e_signing import key_pair
from e2e_small_model import write_model_folder
from pulumi.dynamic import Config, ConfigureRequest
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.builder import building, inside, running
from gpuserve_images.builder.engine_log import EngineLog
from gpuserve_images.builder.errors import JobError
from gpuserve_images.oci import File, Layer, SignatureError, bake, resolve
from gpuserve_images.pipeline.key import content_key
from gpuserve_images.resource import ImageProvider, ModelImage, plain_inputs
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target

PROVIDER = ImageProvider()


@pytest.fixture
def props(tmp_path, registry, monkeypatch) -> dict[str, Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what a pod leaves goes with the pod
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    folder = write_model_folder(tmp_path / "model").parent
    base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
    model = load_model(folder / "small.yaml")
    return {
        "model": plain_inputs(model),
        "build": "fp32",
        "folder": str(folder),
        "registry": f"{registry.host}/{tmp_path.name}",
        "target": {"kind": "cpu", "server": "triton"},
        "base": base,
        "key": content_key(model, "fp32", folder=folder, target=Target(), base=base),
        # As the engine hands it over: numbers are floats.
        "builder": {"kind": "job", "registry_address": f"http://{registry.host}", "image": "any", "retries": 1.0},
        "placement": {"pool": "p", "namespace": "gpuserve-p", "node_selector": {}, "tolerations": [{"operator": "Exists"}]},
        "log_urn": "urn:pulumi:s::p::gpuserve:index:ModelImage::x",
    }


class Building(PlayedCluster):
    """A cluster whose pod is this process."""

    def __init__(self) -> None:
        super().__init__([[pod("a", running={})]], end="Complete", logs={"a": ["verify"]})
        self.jobs: list[dict[str, Any]] = []

    def create(self, job: dict[str, Any]) -> bool:
        self.jobs.append(job)
        assert inside.main(job["spec"]["template"]["spec"]["containers"][0]["command"][3:]) == 0
        return super().create(job)


@pytest.mark.slow
def test_a_job_builds_and_its_digest_comes_back_once(props, monkeypatch, capfd):
    cluster = Building()
    monkeypatch.setattr(building, "connect", lambda _: cluster)
    monkeypatch.setattr(running, "_LOOK_SECONDS", 0.01)
    assert PROVIDER.check({}, props).failures == []
    created = PROVIDER.create(props)
    assert "@sha256:" in (created.outs or {})["reference"]
    (job,) = cluster.jobs
    assert (job["metadata"]["namespace"], job["spec"]["backoffLimit"]) == ("gpuserve-p", 1)
    assert "building in Job gpuserve-p/build-small-fp32-" in capfd.readouterr().err
    # Where it was built is no reason to build it again, and an image that is there needs no cluster.
    here = {name: value for name, value in props.items() if name not in {"builder", "placement", "log_urn"}}
    assert PROVIDER.diff(created.id, created.outs or {}, here).changes is False
    monkeypatch.setattr(building, "connect", None)
    assert PROVIDER.check({}, props).failures == []
    assert PROVIDER.create(props).outs == created.outs


@pytest.mark.slow
def test_a_signed_image_is_known_again_by_its_public_key(props, monkeypatch):
    private, public = key_pair()
    monkeypatch.setattr(running, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(building, "connect", lambda _: Building())
    monkeypatch.setenv("SIGNING_KEY", private)
    props = signed(props, public_key=public)
    state = PROVIDER.create(props).outs or {}

    # The private key is in the cluster, and an image that is there needs none.
    monkeypatch.delenv("SIGNING_KEY")
    monkeypatch.setattr(building, "connect", None)
    assert PROVIDER.check({}, props).failures == []
    assert PROVIDER.create(props).outs == state

    other = signed(props, public_key=key_pair()[1])
    assert other["key"] == props["key"]
    tag = state["reference"].split("@")[0] + ":" + props["key"][:40]
    annotations = dict(resolve(tag).annotations)
    for wrong, said in ((other, "none of them by this key"), (props, "is not signed")):
        (failure,) = PROVIDER.check({}, wrong).failures
        assert said in failure.reason
        with pytest.raises(SignatureError, match=said):
            PROVIDER.create(wrong)
        # Somebody else's image comes under the tag.
        bake(tag, [Layer({"/models/small/1/model.onnx": File(b"evil")})], annotations=annotations)
    with pytest.raises(SignatureError, match="is not signed"):
        PROVIDER.read("x", state)


def test_a_job_that_signs_needs_the_public_key(props, monkeypatch):
    monkeypatch.setattr(building, "connect", lambda _: PlayedCluster([], end="gone"))
    props = signed(props)
    (failure,) = PROVIDER.check({}, props).failures
    assert "bake.sign.public_key: is not given, and the private key is in the cluster alone" in failure.reason
    assert "public_key: cosign.pub" in failure.reason
    with pytest.raises(SpecError, match=r"bake\.sign\.public_key"):
        PROVIDER.create(props)


def signed(props: dict[str, Any], **sign: str) -> dict[str, Any]:
    """Return the inputs of a model that is signed by the key in `SIGNING_KEY`."""
    model = ModelSpec.parse({**props["model"], "bake": {"sign": {"key": "env://SIGNING_KEY", **sign}}})
    key = content_key(model, props["build"], folder=Path(props["folder"]), target=Target(), base=props["base"])
    return {**props, "model": plain_inputs(model), "key": key}


def test_a_preview_says_what_could_not_work(props, monkeypatch):
    class Closed(PlayedCluster):
        def require_rights(self, namespace: str) -> None:
            raise JobError("KUBECONFIG", f"may not create jobs in namespace {namespace}", "Use another.")

    monkeypatch.setattr(building, "connect", lambda _: Closed([], end="gone"))
    (failure,) = PROVIDER.check({}, props).failures
    assert (failure.property, "may not create jobs in namespace gpuserve-p" in failure.reason) == ("build", True)

    del props["builder"]["registry_address"]
    (failure,) = PROVIDER.check({}, props).failures
    assert "there, that name is the pod itself" in failure.reason


def test_what_a_build_takes_from_its_namespace_is_looked_up_before_anything_is_sent(props, monkeypatch, registry):
    cluster = PlayedCluster([], end="gone", missing=(("Secret", "bucket"),))
    monkeypatch.setattr(building, "connect", lambda _: cluster)
    props["builder"]["secrets"] = ["bucket"]
    # The pool's own namespace may still be made, and the Secret with it.
    assert PROVIDER.check({}, props).failures == []
    before = len(registry.requests())
    with pytest.raises(SpecError, match=r"builder\.secrets\[0\] = 'bucket': there is no Secret bucket in namespace gpuserve-p"):
        PROVIDER.create(props)
    assert not [hit for hit in registry.requests()[before:] if hit[0] not in {"GET", "HEAD"}]
    assert cluster.created == []
    # One that is named is there.
    props["builder"]["namespace"] = "builds"
    (failure,) = PROVIDER.check({}, props).failures
    assert "in namespace builds" in failure.reason


def test_no_cluster_is_named(props, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    (failure,) = PROVIDER.check({}, props).failures
    assert "names no cluster that builds could run in" in failure.reason
    assert "builder: local" in failure.reason


@pytest.mark.parametrize(
    ("config", "context", "expected"),
    [
        ({}, None, AMBIENT),
        ({"context": "prod", "cluster": "b", "kubeconfig": "~/k"}, None, ClusterChoice("prod", "b", "~/k")),
        ({"kubeconfig": {"kind": "Config"}}, None, ClusterChoice(kubeconfig='{"kind": "Config"}')),
        (
            {"context": "prod", "cluster": "b", "kubeconfig": "~/k"},
            "own",
            ClusterChoice("own", None, "~/k", context_field="builder.context"),
        ),
    ],
)
def test_a_job_goes_to_the_cluster_that_the_stack_names(props, monkeypatch, config, context, expected):
    asked: list[ClusterChoice] = []

    def connect(chosen: ClusterChoice) -> PlayedCluster:
        asked.append(chosen)
        return PlayedCluster([], end="gone")

    monkeypatch.setattr(building, "connect", connect)
    provider = ImageProvider()
    provider.configure(ConfigureRequest(Config({f"kubernetes:{key}": value for key, value in config.items()}, "p")))
    props["builder"] |= {"context": context} if context else {}
    assert provider.check({}, props).failures == []
    assert asked == [expected]


def test_a_context_that_is_not_there_is_said_in_the_preview(props, monkeypatch, tmp_path):
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump({"contexts": [{"name": "prod", "context": {}}]}))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    provider = ImageProvider()
    provider.configure(ConfigureRequest(Config({"kubernetes:context": "prdo"}, "p")))
    (failure,) = provider.check({}, props).failures
    assert failure.reason.startswith("config.kubernetes:context = 'prdo': is no context of")
    assert "did you mean 'prod'?" in failure.reason


def test_a_job_needs_a_placement(tmp_path):
    path = write_model_folder(tmp_path / "model")
    with pytest.raises(pulumi.RunError, match="is required by builder `job`"):
        ModelImage("x", load_model(path), build="fp32", folder=path.parent, registry="r.example.com/m", builder={"kind": "job"})


class _Engine(engine_pb2_grpc.EngineServicer):
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def Log(self, request, context):  # noqa: N802 - the protocol's name
        self.lines.append((request.urn, request.message))
        return engine_pb2.google_dot_protobuf_dot_empty__pb2.Empty()

    def GetRootResource(self, request, context):  # noqa: N802 - the protocol's name
        return engine_pb2.GetRootResourceResponse()


def test_lines_go_to_the_engine_below_their_resource_and_a_dead_engine_is_noticed():
    engine, server = _Engine(), grpc.server(futures.ThreadPoolExecutor(2))
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    log = EngineLog("urn:x", ["provider.py", "-v", f"127.0.0.1:{port}"])
    log.line("quantise")
    assert engine.lines == [("urn:x", "quantise")]
    assert log.listens()
    server.stop(0).wait()
    assert not log.listens()
    log.line("lost, and no error")


def test_without_an_engine_lines_are_printed(capfd):
    log = EngineLog("urn:x", ["pytest", "tests/fast"])
    log.line("quantise")
    assert capfd.readouterr().err == "quantise\n"
    assert log.listens()
