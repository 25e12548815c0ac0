"""Stage 3: ONNX Runtime's graph optimisation, done once and ahead of time."""

import shutil
from pathlib import Path

from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.spec import OptimiseLevel
from gpuserve_images.records import StageRecord, sha256_file, tool_versions
from gpuserve_images.target import Target

LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
"""Levels whose result is the same model on every machine.

ONNX Runtime's third level, layout, rewrites the graph for the processor it runs on (NCHWc blocks), so it is left to the server.
`basic` stays within standard ONNX operators; `extended` may add fused ones of ONNX Runtime's CPU provider.
https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
"""


def level_for(level: OptimiseLevel, target: Target) -> str:
    """Return the level that `auto` means on a target, or the level itself."""
    if level != "auto":
        return level
    return "extended" if target.kind == "cpu" else "basic"


def optimise(model: Path, out: Path, level: str) -> StageRecord:
    """Write the optimised model.

    Args:
        model: The ONNX file to optimise.
        out: Where to write the result.
        level: `none`, `basic` or `extended`.

    Raises:
        SourceError: When ONNX Runtime cannot run the model.
    """
    if level == "none":
        shutil.copyfile(model, out)
    else:
        Session(model, threads=1, optimise=LEVELS[level], save_to=out)
    return StageRecord(
        stage="optimise",
        inputs={"model": sha256_file(model)},
        options={"level": level},
        outputs={out.name: sha256_file(out)},
        tools=tool_versions("onnxruntime"),
    )
