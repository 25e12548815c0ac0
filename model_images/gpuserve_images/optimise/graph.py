"""Graph optimisation by ONNX Runtime, done once and ahead of time: constants folded, dead nodes dropped, shapes written down."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve_images.compile.errors import CompileError
from gpuserve_images.disks import scratch
from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.operators import require_operators
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.accepted import acceptance
from gpuserve_images.optimise.exchanged import exchanged
from gpuserve_images.optimise.folding import fold_limit, size_comparisons
from gpuserve_images.optimise.saving import plain_weights, reload, save
from gpuserve_images.optimise.shapes import with_shapes
from gpuserve_images.optimise.spec import OptimiseLevel, Precision
from gpuserve_images.records import StageRecord, sha256_file, tool_versions
from gpuserve_images.target import Target

if TYPE_CHECKING:
    from onnx import ModelProto

LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
"""Levels whose result is the same model on every machine.

ONNX Runtime's third level, layout, rewrites the graph for the processor it runs on (NCHWc blocks), so it is left to the server.
`basic` folds constants and drops what does nothing, within standard ONNX operators; `extended` may add fused operators of ONNX Runtime's
own. https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
"""

WIDENED = "InsertedPrecisionFreeCast_"
"""How ONNX Runtime calls what it casts to FP32 and back where its CPU has no FP16 kernel. It does so whatever the level, and the casts are
saved: on a GPU the model would compute in FP32 from then on."""


def level_for(level: OptimiseLevel, target: Target, precision: Precision = "fp32") -> str:
    """Return the level that `auto` means on a target, or the level itself.

    What becomes FP16 keeps to standard operators: the conversion knows which of those FP16 breaks.
    """
    if level != "auto":
        return level
    return "extended" if target.kind == "cpu" and precision != "fp16" else "basic"


def optimise(model: Path, out: Path, level: str, *, gpu: bool = False) -> StageRecord:
    """Write the optimised model, with the shapes of its inner tensors.

    For a GPU, a model that optimisation would move to FP32, or make TensorRT refuse, stays as it is, and the record says so.

    Args:
        model: The ONNX file to optimise; weights in files of their own are read.
        out: Where to write the result; weights over 1.8 GB go to `<name>.data` beside it.
        level: `none`, `basic` or `extended`.
        gpu: Whether it will run on one. Default: on a CPU.

    Raises:
        SourceError: When ONNX Runtime lacks an operator, which is named with its node, or cannot run the model.
        OSError: When the disk of `out` is full.
    """
    import onnx

    require_operators(model)
    before = onnx.load(model)
    changed = plain_weights(before)
    changed = size_comparisons(before) or changed
    limit = fold_limit(before)
    after, notes = before, list[str]()
    if level != "none":
        with scratch(out.parent) as folder:
            plain = folder / "plain.onnx"
            if changed:
                save(before, plain)
                reload(before, folder)
            after = by_runtime(plain if changed else model, LEVELS[level], folder, limit, shown=model)
    if gpu and (widened := _widened(after) - _widened(before)):
        after = before
        notes.append(f"left as it was, because ONNX Runtime would move {widened} tensors of it from FP16 to FP32")
    shaped = exchanged(with_shapes(after))
    files = save(shaped, out)
    if gpu and after is not before and level == "basic":
        try:
            acceptance(model, out)
        except CompileError as error:
            shaped = exchanged(with_shapes(before))
            files = save(shaped, out)
            notes.append(f"left as it was, because TensorRT would refuse it otherwise: {shortened(error.reason)}")
    return StageRecord(
        stage="optimise",
        inputs={"model": sha256_file(model)},
        options={"level": level},
        outputs={file.name: sha256_file(file) for file in files},
        tools=tool_versions("onnx", "onnxruntime"),
        notes=(_note(before, shaped), *notes),
    )


def by_runtime(model: Path, level: str, folder: Path, limit: int, *, shown: Path | None = None) -> "ModelProto":
    """Return the model as ONNX Runtime's optimisers leave it.

    Args:
        model: The ONNX file.
        level: Name of a `GraphOptimizationLevel`, such as `ORT_ENABLE_BASIC`.
        folder: Where temporary files, as large as the model, may lie.
        limit: Bytes of the largest constant that may be folded (`fold_limit`).
        shown: What an error calls the file, where it is a temporary one. Default: itself.

    Raises:
        SourceError: When ONNX Runtime cannot run the model, or nothing in it depends on an input.
    """
    import onnx

    written = folder / "optimised.onnx"
    name = str(shown or model)
    try:
        Session(model, threads=1, optimise=level, save_to=written, fold_limit=limit)
    except SourceError as error:
        raise SourceError(name, error.reason.replace(str(model), name), error.fix) from error
    after = onnx.load(written)
    if not after.graph.node:
        reason = "gives the same answer to every request: none of its outputs is computed from an input"
        raise SourceError(name, reason, "Export the model with the outputs that its inputs are for.")
    return after


def _widened(model: "ModelProto") -> int:
    """Count the tensors that ONNX Runtime moved to FP32."""
    return sum(WIDENED in name for node in model.graph.node if node.op_type != "Cast" for name in node.output)


def _note(before: "ModelProto", after: "ModelProto") -> str:
    inner = {name for node in after.graph.node for name in node.output} - {output.name for output in after.graph.output}
    shaped = inner & {value.name for value in after.graph.value_info}
    return (
        f"{len(before.graph.node)} nodes became {len(after.graph.node)}; {len(shaped)} of {len(inner)} inner shapes are known"
    )
