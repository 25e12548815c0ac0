"""The stages of a build: what decides each one's result, and the function that makes it."""

from collections.abc import Mapping
from pathlib import Path

from gpuserve.kubernetes.spec import plain
from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.compile.tensorrt import compile_engine
from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.optimise.graph import level_for, optimise
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.pipeline import laid
from gpuserve_images.pipeline.bench import Benches, calibration_samples
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import MODEL, Done, Source, Stage, Work
from gpuserve_images.records import StageRecord, tool_versions
from gpuserve_images.verify.capacity import Capacity, measure_capacity
from gpuserve_images.verify.parity import Parity

SIGNATURE = "signature.json"
PARITY = "parity.json"
CAPACITY = "capacity.json"
ENGINE = "model.engine"


def optimised(job: Job, before: Stage | Source) -> Stage:
    """Return the stage of ONNX Runtime's graph optimisation."""
    level = level_for(job.spec.optimise, job.target)

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        _keep_signature(model, work.out)
        return optimise(model.file, work.out / MODEL, level)

    return Stage("optimise", run, after={"model": before}, options={"level": level}, tools=tool_versions("onnxruntime"))


def statically_quantised(job: Job, before: Stage | Source) -> Stage:
    """Return the stage of INT8 with measured ranges."""
    calibrate = job.spec.calibrate
    assert calibrate is not None  # noqa: S101 - the spec's own rule, said to the type checker

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        samples = calibration_samples(job, _keep_signature(model, work.out))
        return quantise_static(model.file, work.out / MODEL, samples, calibrate, job.target, progress=work.progress)

    return Stage(
        "quantise",
        run,
        inputs=job.sample_inputs("calibrate"),
        after={"model": before},
        options={"mode": "static", "kind": job.target.kind, **plain(calibrate.model_copy(update={"inputs": ()}))},
        tools=tool_versions("onnx", "onnxruntime"),
    )


def dynamically_quantised(before: Stage | Source) -> Stage:
    """Return the stage of INT8 whose ranges are found anew for each request."""

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        _keep_signature(model, work.out)
        return quantise_dynamic(model.file, work.out / MODEL)

    tools = tool_versions("onnx", "onnxruntime")
    return Stage("quantise", run, after={"model": before}, options={"mode": "dynamic"}, tools=tools)


def verified(job: Job, source: Stage | Source, model: Stage, benches: Benches) -> Stage:
    """Return the stage that measures a build's differences from its source; whether they are small enough is judged elsewhere."""

    def run(work: Work) -> StageRecord:
        bench = benches.of(lambda: work.before("source").file, work.progress)
        parity = bench.parity(work.before("model").file)
        (work.out / PARITY).write_text(parity.model_dump_json(indent=2), encoding="utf-8")
        return StageRecord(stage="verify", notes=(parity.model_dump_json(),))

    return Stage(
        "verify",
        run,
        inputs=job.sample_inputs("verify"),
        after={"source": source, "model": model},
        options={"batches": list(job.model.verify_batches()), "generate": plain(job.model.verify.generated)},
        tools=tool_versions("onnxruntime", "numpy"),
    )


def timed(job: Job, source: Stage | Source, model: Stage, benches: Benches) -> Stage:
    """Return the stage that measures how fast a build is on this machine."""

    def run(work: Work) -> StageRecord:
        bench = benches.of(lambda: work.before("source").file, work.progress)
        capacity = measure_capacity(work.before("model").file, bench.requests.tensors, bench.sizes, job.model.slo)
        (work.out / CAPACITY).write_text(capacity.model_dump_json(indent=2), encoding="utf-8")
        return StageRecord(stage="capacity")

    return Stage(
        "capacity",
        run,
        inputs=job.sample_inputs("verify"),
        after={"source": source, "model": model},
        options={
            "batches": list(job.model.verify_batches()),
            "generate": plain(job.model.verify.generated),
            "slo": plain(job.model.slo),
        },
        tools=tool_versions("onnxruntime"),
        shared=False,
    )


def compiled(job: Job, before: Stage | Source, architecture: str) -> Stage:
    """Return the stage that makes the engine of one GPU architecture."""

    def run(work: Work) -> StageRecord:
        model = work.before("model")
        shapes = profiles(_keep_signature(model, work.out), job.model.batch)
        return compile_engine(rtx_module(), model.file, work.out / ENGINE, architecture=architecture, shapes=shapes)

    return Stage(
        "compile",
        run,
        after={"model": before},
        options={"architecture": architecture, "batch": [job.model.batch.max, *job.model.batch.sizes]},
        tools=tool_versions("tensorrt-rtx-cu12"),
    )


def served(job: Job, model: Stage) -> Stage:
    """Return the stage that makes a server's own folder of a model."""

    def run(work: Work) -> StageRecord:
        done = work.before("model")
        given = ServedModel.of(job.model.name, "onnx", done.file, signature_of(done))
        files, record = lay_out(job.target.server, given, Wishes(batch=job.model.batch, target=job.target))
        laid.save(files, work.out, {"model": done.folder})
        return record

    options = {
        "name": job.model.name,
        "server": job.target.server,
        "kind": job.target.kind,
        "batch": plain(job.model.batch),
    }
    return Stage("layout", run, after={"model": model}, options=options)


def gathered(engines: Mapping[str, Stage]) -> Stage:
    """Return the stage that puts the engines of several architectures together: `<architecture>/model.engine`."""

    def run(work: Work) -> StageRecord:
        done = {architecture: work.before(architecture) for architecture in engines}
        files: dict[str, Path | bytes] = {f"{name}/{ENGINE}": engine.folder / ENGINE for name, engine in done.items()}
        files[SIGNATURE] = next(iter(done.values())).folder / SIGNATURE
        laid.save(files, work.out, {name: engine.folder for name, engine in done.items()})
        return StageRecord(stage="layout", options={"architectures": list(engines)})

    return Stage("layout", run, after=dict(engines), options={"engines": "tensorrt-rtx"})


def signature_of(done: Done) -> Signature:
    """Return the signature that a stage's model was made from, or its own."""
    kept = done.folder / SIGNATURE
    return Signature.model_validate_json(kept.read_bytes()) if kept.is_file() else read_signature(done.file)


def parity_of(done: Done) -> Parity:
    """Return what a `verify` stage measured."""
    return Parity.model_validate_json((done.folder / PARITY).read_bytes())


def capacity_of(done: Done) -> Capacity:
    """Return what a `capacity` stage measured."""
    return Capacity.model_validate_json((done.folder / CAPACITY).read_bytes())


def _keep_signature(model: Done, out: Path) -> Signature:
    """Hand the source's signature on, so that later stages need the source no more."""
    signature = signature_of(model)
    (out / SIGNATURE).write_text(signature.model_dump_json(indent=2), encoding="utf-8")
    return signature
