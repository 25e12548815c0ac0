"""The answers are the source model's, and everything that is printed works when it is pasted."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import requests
from e2e_cluster import NAMESPACE, ROOT, VERSIONS, Cluster, run
from e2e_stack import Stack, command
from e2e_traffic import HOST, INPUT, MODEL, OUTPUT, infer, random_inputs
from tritonclient.grpc import InferenceServerClient, InferInput

from gpuserve.platform.load import load_stack
from gpuserve_embedded.cluster.layout import STATE
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.samples.codec import load_codec
from gpuserve_images.samples.picking import sample_set

pytestmark = pytest.mark.e2e

FP32_BAR = 1e-4


@pytest.fixture(scope="module")
def source() -> Session:
    from importlib.util import find_spec

    (package,) = find_spec("magika").submodule_search_locations
    return Session(Path(package) / "models/standard_v3_3/model.onnx")


def test_fp32_answers_random_inputs_as_the_source_model(quiet: Cluster, source: Session):
    for seed, rows in enumerate((1, 3, 8, 32, 5)):
        inputs = random_inputs(rows, seed)
        expected = source.run({INPUT: inputs})[OUTPUT]
        np.testing.assert_allclose(infer(quiet.address("fp32"), inputs), expected, rtol=0, atol=FP32_BAR)


def test_fp32_answers_over_grpc_too(quiet: Cluster, source: Session):
    inputs = random_inputs(3, seed=20)
    tensor = InferInput(INPUT, list(inputs.shape), "INT32")
    tensor.set_data_from_numpy(inputs)
    with InferenceServerClient(quiet.endpoint("fp32", "grpc")) as client:
        answer = client.infer(MODEL, [tensor], client_timeout=30).as_numpy(OUTPUT)
    np.testing.assert_allclose(answer, source.run({INPUT: inputs})[OUTPUT], rtol=0, atol=FP32_BAR)


def test_int8_agrees_with_the_source_model_as_declared(quiet: Cluster, source: Session):
    declared = load_stack("local", ROOT / "stacks")
    model = declared.models[MODEL]
    codec = load_codec(model.io, declared.folder)
    encoded = []
    for file in sample_set(model, "int8", declared.folder).verify:
        try:
            encoded.append(codec.encode(file)[INPUT])
        except ValueError:  # too small for the model
            continue
    bars = model.bars("int8").stated()
    expected, answers = [], []
    for start in range(0, len(encoded), 16):
        inputs = np.concatenate(encoded[start : start + 16])
        expected.append(source.run({INPUT: inputs})[OUTPUT])
        answers.append(infer(quiet.address("int8"), inputs))
    wanted, given = np.concatenate(expected), np.concatenate(answers)
    assert len(given) > 100
    assert (wanted.argmax(axis=1) == given.argmax(axis=1)).mean() >= bars["top1_agreement"]
    assert np.abs(wanted - given).max() <= bars.get("max_abs_error", 1)


def test_the_gateway_gives_the_answer_of_one_of_the_versions(stack: Stack, quiet: Cluster, source: Session):
    versions = {"fp32": 0, "int8": 0}
    for seed in range(40):
        inputs = random_inputs(1, 100 + seed)
        answer = infer(stack.url, inputs)
        if np.abs(answer - source.run({INPUT: inputs})[OUTPUT]).max() <= FP32_BAR:
            versions["fp32"] += 1
        else:
            np.testing.assert_allclose(answer, infer(quiet.address("int8"), inputs), rtol=0, atol=1e-3)
            versions["int8"] += 1
    assert versions["fp32"] > versions["int8"]


def test_another_host_is_nobody(stack: Stack):
    answer = requests.get(f"{stack.url}/v2/models/{MODEL}", headers={"Host": "other.example.com"}, timeout=10)
    assert answer.status_code == 404


def test_up_ends_with_the_right_answer_for_a_file_nobody_prepared(stack: Stack, unprepared: Path):
    assert stack.answer["file"] == str(unprepared)
    assert stack.answer["prediction"].startswith("csv ")


def test_the_outputs_say_how_to_reach_each_service(stack: Stack):
    assert stack.service == {
        "url": "http://127.0.0.1:8080",
        "host": HOST,
        "ca": stack.cluster.get("configmap", "filetype-ca", "-n", NAMESPACE)["data"]["ca.crt"],
        "model": MODEL,
        "protocol": "v2",
        "versions": {"fp32": 80, "int8": 20},
        "example": stack.service["example"],
    }
    assert all(seconds >= 0 for seconds in stack.answer["seconds"].values())
    assert stack.answer["prometheus"].startswith("http://")


def test_no_server_keeps_an_id_to_call_home_with(stack: Stack):
    homes = list((STATE / "kubelet" / "pods").glob("*/volumes/kubernetes.io~empty-dir/*"))
    assert homes
    assert [left for home in homes for left in home.rglob("deviceid")] == []


def test_the_curl_example_works_when_pasted(stack: Stack):
    pasted = subprocess.run(["bash", "-c", stack.service["example"]], capture_output=True, text=True, timeout=60, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert json.loads(pasted.stdout)["model_name"] == MODEL


def test_what_up_prints_works_when_pasted_and_a_second_up_changes_nothing(stack: Stack):
    again = command("up", "--file", "README.md")
    assert again.returncode == 0, again.stderr
    assert stack.service["example"] in again.stdout
    lines = again.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.endswith("<<'EOF'"))
    script = "\n".join(lines[first : lines.index("EOF", first) + 1])
    pasted = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert "214" in pasted.stdout  # the number of the model's classes


def test_predict_asks_through_the_gateway(stack: Stack, unprepared: Path):
    done = run([ROOT / ".venv/bin/gpuserve", "predict", "filetype", str(unprepared), "-s", "local", "--json"], stack.variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"] == "csv"


def test_status_is_ready_and_says_what_the_outputs_say(stack: Stack, quiet: Cluster):
    done = run([ROOT / ".venv/bin/gpuserve", "status", "--json"], stack.variables)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["services"]["filetype"]
    assert stack.service.items() <= found.items()
    assert found["ready"]
    assert found["blocked_by"] is None
    assert found["parts"]
    assert all(part["ready"] for part in found["parts"].values())


def test_the_registry_has_every_build_also_the_engine_that_is_not_served(stack: Stack, quiet: Cluster):
    listed = [ROOT / ".venv/bin/gpuserve", "images", "ls", "localhost:5000/models/filetype", "--json"]
    done = run(listed, stack.variables)
    assert done.returncode == 0, done.stderr
    images = json.loads(done.stdout)
    assert {image["summary"]["build"] for image in images} == {"fp32", "int8", "rtx"}
    assert all(image["summary"]["architectures"] for image in images if image["summary"]["build"] == "rtx")
    digests = {image["reference"].partition("@")[2]: image["summary"]["build"] for image in images}
    for version in VERSIONS:
        (pod,) = quiet.pods(version)
        assert digests[pod["spec"]["containers"][0]["image"].partition("@")[2]] == version
