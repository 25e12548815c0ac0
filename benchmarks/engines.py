"""Building engines: how long, how large, and what a kept timing cache saves; each build is a process of its own.

TensorRT for RTX builds for GPUs that are not here, and chooses kernels where the engine runs, so it has no times to keep: its second build
shows what the machine itself keeps warm. TensorRT is measured where there is a GPU: an empty timing cache, then the one that the first build
left.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Report, Row, Run, timed

RUNS = 5
MODELS = {
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "ResNet-50": ("onnx", "backend/test/data/light/light_resnet50.onnx"),
}
"""Name -> installed package and the model's path in it. The second has ResNet-50's graph and shapes, with constant weights."""

PRECISIONS = ("fp32", "fp16")
RTX_ARCHITECTURE = "sm_89"
MB = 1_000_000

_PYTHON = ROOT / ".venv/bin/python"
_PREPARE = """
import sys
from pathlib import Path
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
optimise(source, folder / "fp32.onnx", "basic")
to_fp16(folder / "fp32.onnx", folder / "fp16.onnx")
"""
_BUILD = """
import json, sys, time
from pathlib import Path
from gpuserve_images.compile.builders import builder_module
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.compile.tensorrt import compile_engine
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.signature import read_signature
engine, architecture, model, caches = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
trt, shapes = builder_module(engine), profiles(read_signature(model), BatchSpec())
out = model.with_suffix(".engine")
wall, processor = time.perf_counter(), time.process_time()
record = compile_engine(trt, model, out, architecture=architecture, shapes=shapes, caches=caches)
took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
print(json.dumps({**took, "bytes": out.stat().st_size, "version": trt.__version__, "summary": record.options["summary"]}))
"""


def run(report: Report) -> dict[str, Any]:
    """Return seconds of a first and a second build, and bytes, by builder, model and precision."""
    measured: dict[str, Any] = {}
    for engine, architecture, gpu in _builders(report):
        models = {model: _model(engine, architecture, model, report) for model in MODELS}
        measured[engine] = {"architecture": architecture, "gpu": gpu, "models": models}
    return {"builders": measured}


def _builders(report: Report) -> list[tuple[str, str, str]]:
    """Return what can be measured here: builder, architecture, GPU."""
    from gpuserve_images.compile.builders import builds
    from gpuserve_images.compile.gpus import find_gpus

    found = [("tensorrt-rtx", RTX_ARCHITECTURE, "")]
    gpus = find_gpus()
    if gpus.visible and builds("tensorrt"):
        found.append(("tensorrt", gpus.visible[0].architecture, gpus.visible[0].name))
    else:
        report(f"TensorRT is not measured: {gpus.reason or 'it is not installed'}")
    return found


def _model(engine: str, architecture: str, model: str, report: Report) -> dict[str, Any]:
    package, path = MODELS[model]
    with tempfile.TemporaryDirectory(prefix="gpuserve-bench-") as name:
        folder = Path(name)
        timed([_PYTHON, "-c", _PREPARE, _package(package) / path, folder])
        return {precision: _precision(engine, architecture, folder, precision, report, model) for precision in PRECISIONS}


def _precision(  # noqa: PLR0913, PLR0917 - hands one measurement's names on
    engine: str, architecture: str, folder: Path, precision: str, report: Report, model: str
) -> dict[str, Any]:
    builds: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for number in range(RUNS):
        caches = folder / f"caches-{precision}-{number}"
        for state, found in builds.items():
            report(f"{engine}, {model} {precision}, {state}, {number + 1} of {RUNS}")
            ran: Run = timed([_PYTHON, "-c", _BUILD, engine, architecture, folder / f"{precision}.onnx", caches])
            found.append({**json.loads(ran.output.splitlines()[-1]), "mebibytes": ran.mebibytes})
    best = {state: min(found, key=lambda build: build["seconds"]) for state, found in builds.items()}
    return {
        **{state: {name: build[name] for name in ("seconds", "cpu_seconds")} for state, build in best.items()},
        **{name: best["cold"][name] for name in ("bytes", "mebibytes", "version", "summary")},
    }


def _package(name: str) -> Path:
    import importlib.util

    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise RuntimeError(f"{name} is not installed, and its model is measured here")
    return Path(found.origin).parent


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    lines: list[Row] = []
    for engine, measured in result["builders"].items():
        where = f"on {measured['gpu']}" if measured["gpu"] else "no GPU here"
        for model, precisions in measured["models"].items():
            full, half = precisions["fp32"], precisions["fp16"]
            what = f"{engine} {full['version']} engine of {model} for {measured['architecture']}, {where}"
            size = {name: f"{found['bytes'] / MB:.1f} MB" for name, found in precisions.items()}
            took = f"fp32 {_took(full['cold'])}, {size['fp32']}; fp16 {_took(half['cold'])}, {size['fp16']}"
            kind = "with the kept timing cache" if measured["gpu"] else "built again (nothing is timed, so no times are kept)"
            beside = f"{kind}: fp32 {_took(full['warm'], full['cold'])}, fp16 {_took(half['warm'], half['cold'])}"
            lines.append(Row(what, took, beside))
    return lines


def _took(build: dict[str, float], before: dict[str, float] | None = None) -> str:
    """Return wall-clock and processor time; processor time is what other work on the machine hardly changes."""
    text = f"{build['seconds']:.2f} s ({build['cpu_seconds']:.2f} s of processor"
    return f"{text})" if before is None else f"{text}, {before['cpu_seconds'] / build['cpu_seconds']:.1f} times as fast)"


def main() -> None:
    """Measure this alone: `python -m benchmarks.engines`."""
    result = run(lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    print(json.dumps(result, indent=2))
    for row in rows(result):
        print(f"| {row.what} | {row.result} | {row.beside} |")


if __name__ == "__main__":
    main()
