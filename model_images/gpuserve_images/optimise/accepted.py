"""Whether TensorRT takes what a stage wrote, by its own parser: no GPU, no build, milliseconds."""

from pathlib import Path

from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.parsing import require_accepted
from gpuserve_images.errors import shortened


def acceptance(before: Path, after: Path) -> str:
    """Return in a sentence whether TensorRT accepts the result of a stage, for its record.

    Args:
        before: The model that the stage read.
        after: The model that it wrote.

    Raises:
        CompileError: When TensorRT accepts the first and not the second: then the stage broke the model.
    """
    try:
        trt = rtx_module()
    except CompileError as error:
        return f"not checked with TensorRT's parser: {error.reason}"
    name = f"the parser of {trt.__name__} {trt.__version__}"
    try:
        require_accepted(trt, after)
    except CompileError as error:
        try:
            require_accepted(trt, before)
        except CompileError:
            return f"{name} accepts neither the result nor the model before: {shortened(error.reason)}"
        reason = f"was accepted by TensorRT before this stage, and its result is not: {error.reason}"
        raise CompileError(str(before), reason, "Build it in fp32, or leave the named node alone (`keep_fp32:`).") from error
    return f"accepted by {name}"
