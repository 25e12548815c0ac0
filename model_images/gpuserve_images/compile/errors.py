"""What cannot be compiled, and why."""

from gpuserve_images.errors import ImageError


class CompileError(ImageError):
    """TensorRT cannot make an engine of the model."""
