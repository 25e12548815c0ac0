"""What goes along to the cluster: the same build there, whatever was on the machine that asks."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_signing import key_pair
from e2e_small_model import classifier, write_model_folder

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.builder import context, inside
from gpuserve_images.builder.portable import require_portable
from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import File, Layer, bake, push_artifact
from gpuserve_images.pipeline.build import build, published
from gpuserve_images.pipeline.chain import Chain, plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.records import silent
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what a pod leaves goes with the pod
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)


def chain_of(path: Path, build_name: str = "int8", base: str = "") -> Chain:
    return plan(Job(load_model(path), build_name, path.parent, Target()), base)


def sent(chain: Chain, registry, base: str = "") -> str:
    return context.push(chain, f"{registry.host}/models", base, silent)


def there(reference: str, folder: Path) -> Chain:
    folder.mkdir()
    order = context.pull(reference, folder)
    return plan(order.job(folder), order.base)


CODE = "import numpy\ndef encode(path):\n    with numpy.load(path) as a:\n        return {'x': a['x']}\ndef decode(outputs):\n    return ''\n"


@pytest.mark.parametrize("build_name", ["fp32", "int8"])
def test_the_key_is_the_same_there_without_the_files_of_this_machine(registry, tmp_path, build_name):
    path = write_model_folder(tmp_path / "model", io="code.py")
    (path.parent / "code.py").write_text(CODE)
    chain = chain_of(path, build_name)
    reference = sent(chain, registry)
    shutil.rmtree(path.parent)
    assert there(reference, tmp_path / "there").key == chain.key


def test_samples_keep_their_order_and_their_part(registry, tmp_path):
    chain = chain_of(write_model_folder(tmp_path / "model"))
    other = there(sent(chain, registry), tmp_path / "there")
    here = chain.job.samples
    assert [file.name for file in other.job.samples.verify] == [file.name for file in here.verify]
    assert [file.read_bytes() for file in other.job.samples.calibrate] == [file.read_bytes() for file in here.calibrate]
    assert here.calibrate
    # Most files are named for both uses, and sent once.
    files = list((tmp_path / "there" / "samples").rglob("*.npz"))
    assert len(files) == 96


@pytest.mark.parametrize("build_name", ["fp32", "int8", "basic"])
def test_versions_that_share_an_image_go_along(registry, tmp_path, build_name):
    builds = {"fp32": {"engine": "onnxruntime"}, "basic": {"engine": "onnxruntime", "optimise": "basic"}}
    builds["int8"] = {"engine": "onnxruntime", "precision": "int8", "calibrate": "samples"}
    path = write_model_folder(tmp_path / "model", builds=builds, layout={"numbers": {1: "fp32", 2: "int8"}, "versions": "all"})
    chain = chain_of(path, build_name)
    reference = sent(chain, registry)
    shutil.rmtree(path.parent)
    assert there(reference, tmp_path / "there").key == chain.key


def test_the_models_of_an_ensemble_go_along_with_their_samples_and_code(registry, tmp_path):
    steps = [
        {"model": "first", "build": "int8", "inputs": {"x": "raw"}, "outputs": {"scores": "seen"}},
        {"model": "small", "inputs": {"x": "raw"}, "outputs": {"scores": "answer"}},
    ]
    ensemble = {"name": "whole", "inputs": ["raw"], "outputs": ["answer", "seen"], "steps": steps}
    path = write_model_folder(tmp_path / "model", layout={"ensemble": ensemble})
    other = write_model_folder(tmp_path / "other", name="first", io="code.py")
    (path.parent / "code.py").write_text(CODE)
    onnx.save(classifier(seed=1), path.parent / "first.onnx")
    (path.parent / "first.yaml").write_text(other.read_text().replace("small.onnx", "first.onnx"))
    chain = chain_of(path, "fp32")
    reference = sent(chain, registry)
    shutil.rmtree(path.parent)
    assert there(reference, tmp_path / "there").key == chain.key
    assert (tmp_path / "there" / "models" / "first" / "source" / "first.onnx").is_file()


def test_weights_beside_the_model_and_a_package_go_along(registry, tmp_path, monkeypatch):
    path = write_model_folder(tmp_path / "model")
    onnx.save(classifier(), path.parent / "small.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    chain = chain_of(path)
    assert there(sent(chain, registry), tmp_path / "there").key == chain.key
    assert (tmp_path / "there" / "source" / "weights.bin").is_file()

    package = tmp_path / "packages" / "zoo"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "labels.json").write_text("[]")
    onnx.save(classifier(), package / "small.onnx")
    monkeypatch.syspath_prepend(package.parent)
    data = json.loads(load_model(path).model_dump_json(exclude_none=True)) | {
        "source": {"package": "zoo", "path": "small.onnx"}
    }
    chain = plan(Job(ModelSpec.parse(data), "int8", path.parent, Target()), "")
    reference = sent(chain, registry)
    shutil.rmtree(package.parent)
    (tmp_path / "elsewhere").mkdir()
    order = context.pull(reference, tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere" / context.PACKAGES)
    assert plan(order.job(tmp_path / "elsewhere"), "").key == chain.key
    assert (tmp_path / "elsewhere" / context.PACKAGES / "zoo" / "labels.json").is_file()


def test_an_archive_goes_along_as_it_is(registry, tmp_path):
    path = write_model_folder(tmp_path / "model", source={"file": "small.zip", "format": "onnx"})
    shutil.make_archive(str(path.parent / "small"), "zip", path.parent, "small.onnx")
    chain = chain_of(path)
    assert there(sent(chain, registry), tmp_path / "there").key == chain.key


def test_the_same_inputs_are_sent_once(registry, tmp_path):
    path = write_model_folder(tmp_path / "model")
    first = sent(chain_of(path), registry)
    before = len(registry.requests())
    assert sent(chain_of(path), registry) == first
    assert not [hit for hit in registry.requests()[before:] if hit[0] in {"POST", "PATCH"}]
    np.savez(path.parent / "samples" / "0.npz", x=np.ones((1, 8), np.float32))
    assert sent(chain_of(path), registry) != first


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{}, {"numbers": {1: "fp32", 2: "int8"}, "versions": "all"}], ids=["alone", "versions"])
def test_the_pod_builds_the_image_of_this_machine(registry, tmp_path, monkeypatch, capsys, layout):
    path = write_model_folder(tmp_path / "model", layout=layout)
    base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
    chain = chain_of(path, "int8", base)
    reference = sent(chain, registry, base)
    assert inside.main([reference]) == 0
    said = capsys.readouterr().out
    assert "quantise" in said
    assert "Traceback" not in said
    made = published(f"{registry.host}/models/small:{chain.key[:40]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    here = build(chain.job.model, "int8", folder=path.parent, registry=f"{registry.host}/other", base=base)
    assert made is not None
    assert here.built
    assert made.digest == here.digest


@pytest.mark.slow
def test_a_wrong_model_leaves_its_own_sentence_and_is_not_tried_again(registry, tmp_path, monkeypatch, capsys):
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setattr(inside, "_MESSAGE", message)
    path = write_model_folder(tmp_path / "model", verify={"inputs": "samples", "max_abs_error": 1e-9})
    base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference
    assert inside.main([sent(chain_of(path, "int8", base), registry, base)]) == 3
    assert "max_abs_error" in message.read_text()
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("middle", ["x", "ß"])
def test_a_long_sentence_keeps_its_beginning_and_its_fix(tmp_path, monkeypatch, capsys, middle):
    """The kubelet cuts off what is over 4096 bytes, and with it the fix."""
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setattr(inside, "_MESSAGE", message)
    whole = f"build m: strays. Fix: {middle * 9000} or build it in fp32."
    monkeypatch.setattr(inside, "run", lambda _: (_ for _ in ()).throw(ParityError("build m", "strays", whole)))
    assert inside.main(["reference"]) == 3
    left = message.read_bytes()
    assert len(left) <= 4096
    assert left.startswith(b"build m: strays. Fix: ")
    assert left.endswith(b" or build it in fp32.")
    assert "the whole of it is in the log" in left.decode()
    assert whole in capsys.readouterr().out


def test_a_registry_that_is_down_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("gpuserve_images.oci.client.ATTEMPTS", 1)
    assert inside.main([f"localhost:1/m/contexts@sha256:{'0' * 64}"]) == 1


def test_other_tools_there_are_named(registry, tmp_path, monkeypatch, capsys):
    chain = chain_of(write_model_folder(tmp_path / "model"))
    reference = sent(chain, registry)
    monkeypatch.setattr("gpuserve_images.records._version", lambda package: "0.1")
    assert inside.main([reference]) == 3
    assert "onnxruntime 0.1 instead of" in capsys.readouterr().out


def test_a_path_that_leads_out_is_refused(registry, tmp_path, monkeypatch):
    # Others' programs push what ours refuses to.
    monkeypatch.setattr("gpuserve_images.oci.artifact._require_relative", lambda _: None)
    bad = push_artifact(f"{registry.host}/bad", {"../evil": File(b"x")}, artifact_type=context.CONTEXT_ARTIFACT)
    with pytest.raises(Exception, match="leads out of its folder"):
        context.pull(bad.reference, tmp_path)
    with pytest.raises(RegistryError, match="lacks the build's context"):
        context.pull(f"{registry.host}/bad@sha256:{'0' * 64}", tmp_path)


def test_what_stays_on_this_machine_is_refused_beforehand(tmp_path):
    path = write_model_folder(tmp_path / "model", bake={"sign": {"key": "cosign.key"}, "base_key": "../cosign.pub"})
    with pytest.raises(SpecError) as caught:
        require_portable(Job(load_model(path), "fp32", path.parent, Target()))
    assert "a private key is not sent through a registry" in str(caught.value)
    assert "env://NAME" in str(caught.value)
    assert "lies outside of the model's folder" in str(caught.value)
    assert "bake.sign.public_key: is not given, and the private key is in the cluster alone" in str(caught.value)


def test_the_public_key_goes_along_and_the_private_one_does_not(registry, tmp_path, monkeypatch):
    private, public = key_pair()
    bake = {"sign": {"key": "env://SIGNING_KEY", "public_key": "cosign.pub"}}
    path = write_model_folder(tmp_path / "model", bake=bake)
    (path.parent / "cosign.pub").write_text(public)
    monkeypatch.setenv("SIGNING_KEY", private)
    chain = chain_of(path)
    reference = sent(chain, registry)
    shutil.rmtree(path.parent)
    arrived = there(reference, tmp_path / "there")
    assert arrived.key == chain.key
    assert arrived.job.model.bake.sign.public_key == public
    files = [file.read_bytes() for file in (tmp_path / "there").rglob("*") if file.is_file()]
    assert not [content for content in files if private.splitlines()[1].encode() in content]
