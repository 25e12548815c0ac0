"""New weights for an engine that was built with `refit: true`: seconds in place of a build."""

from pathlib import Path
from types import ModuleType

from gpuserve_images.compile.alone import alone
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.starting import make_logger, make_runtime
from gpuserve_images.records import StageRecord, sha256_file


@alone
def refit(trt: ModuleType, engine: Path, model: Path, out: Path) -> StageRecord:
    """Write an engine with the weights of another model of the same graph.

    Args:
        trt: The builder that built the engine.
        engine: The engine; its GPU must be here.
        model: ONNX file with the same graph and other weights.
        out: Where to write the engine.

    Raises:
        CompileError: When the engine cannot be loaded here, was not built to be refitted, or the model's weights do not fit.
    """
    logger = make_logger(trt)
    loaded = make_runtime(trt, logger).deserialize_cuda_engine(engine.read_bytes())
    name = f"{trt.__name__} {trt.__version__}"
    if loaded is None:
        reason = f"cannot be loaded by {name} on this machine: {logger.last or 'it gave no reason'}"
        raise CompileError(str(engine), reason, "Refit it on a machine with the GPU and the version that it was built for.")
    if not loaded.refittable:
        reason = "was not built to be refitted"
        raise CompileError(str(engine), reason, "Build it with `compile: {refit: true}`.")
    refitter = trt.Refitter(loaded, logger)
    if not trt.OnnxParserRefitter(refitter, logger).refit_from_file(str(model)) or not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights()) or logger.last or "the builder gave no reason"
        reason = f"does not have the weights that the engine wants: {missing}"
        raise CompileError(str(model), reason, "Give a model of the same graph, exported and optimised in the same way.")
    # Without the flag what is written could be refitted no more.
    config = loaded.create_serialization_config()
    config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    out.write_bytes(memoryview(loaded.serialize_with_config(config)))
    return StageRecord(
        stage="refit",
        inputs={"engine": sha256_file(engine), "model": sha256_file(model)},
        outputs={out.name: sha256_file(out)},
        tools={trt.__name__: trt.__version__},
    )
