"""The shapes that an engine accepts: from the model's signature, the batch range, and what the build declares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuserve.kubernetes.errors import suggestion
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.spec import ProfileSpec
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec


@dataclass(frozen=True)
class Profile:
    """Shapes of one input that an engine accepts, and the one it is tuned for."""

    smallest: tuple[int, ...]
    tuned: tuple[int, ...]
    largest: tuple[int, ...]

    def of_axis(self, axis: int) -> tuple[int, int, int]:
        """Return the smallest, tuned and largest size of an axis."""
        return self.smallest[axis], self.tuned[axis], self.largest[axis]

    def plain(self) -> list[list[int]]:
        """Return min, opt and max as plain data."""
        return [list(self.smallest), list(self.tuned), list(self.largest)]


def profiles(signature: Signature, batch: BatchSpec, declared: Mapping[str, ProfileSpec] | None = None) -> dict[str, Profile]:
    """Return the profile of each input.

    An input that `declared` names has the shapes given there; in any other only the batch axis may be free, and it goes from 1 to the largest
    batch, tuned for the first size that the server prefers.

    Args:
        signature: The model's inputs and outputs.
        batch: How requests are joined.
        declared: `profiles:` of the build.

    Raises:
        CompileError: When an axis is free and nothing bounds it, or a profile names no input of the model, contradicts a fixed dimension,
            or leaves batches out that the server makes.
    """
    wanted = dict(declared or {})
    inputs = [tensor.name for tensor in signature.inputs]
    for name in wanted:
        if name not in inputs:
            raise CompileError(f"profiles.{name}", "is no input of the model", f"{suggestion(name, inputs)}.")
    sizes = (1, batch.sizes[0], batch.max) if batch.seen(signature).batched else None
    derived = [tensor for tensor in signature.inputs if tensor.name not in wanted]
    _require_bounds([tensor for tensor in derived if DYNAMIC in tensor.shape[1 if sizes else 0 :]], batched=sizes is not None)
    return {
        tensor.name: _declared(tensor, wanted[tensor.name], sizes) if tensor.name in wanted else _derived(tensor, sizes)
        for tensor in signature.inputs
    }


def _require_bounds(unbounded: Sequence[TensorSpec], *, batched: bool) -> None:
    """Ask for the bounds of all inputs at once: a text model has several of one length."""
    if not unbounded:
        return
    examples = []
    for tensor in unbounded:
        least, most = (
            ", ".join("-1" if batched and not axis else str(size) for axis, size in enumerate(_example(tensor, n)))
            for n in (1, 128)
        )
        examples.append(f"{tensor.name}: {{min: [{least}], opt: [{most}], max: [{most}]}}")
    one = len(unbounded) == 1
    axes = "that axis" if one else "those axes"
    fix = f"Declare `profiles: {{{', '.join(examples)}}}` with your sizes, or export the model with {axes} fixed."
    reason = (
        f"{'has' if one else 'have'} a free axis{' besides the batch' if batched else ''}, and an engine needs bounds for each"
    )
    where = f"input{'' if one else 's'} {', '.join(tensor.name for tensor in unbounded)}"
    raise CompileError(where, reason, fix, value=", ".join(str(list(tensor.shape)) for tensor in unbounded))


def _derived(tensor: TensorSpec, sizes: tuple[int, int, int] | None) -> Profile:
    return Profile(*([(size, *tensor.shape[1:]) for size in sizes] if sizes else [tensor.shape] * 3))


def _example(tensor: TensorSpec, size: int) -> list[int]:
    return [size if dimension == DYNAMIC else dimension for dimension in tensor.shape]


def _declared(tensor: TensorSpec, spec: ProfileSpec, sizes: tuple[int, int, int] | None) -> Profile:
    where = f"profiles.{tensor.name}"
    shape = list(tensor.shape)
    if len(spec.min) != len(shape):
        reason = f"has {len(spec.min)} dimensions, but the input has {len(shape)}: {shape}"
        raise CompileError(where, reason, "Give whole shapes, the batch axis included.", value=str(list(spec.min)))
    given = list(zip(spec.min, spec.opt, spec.max, strict=True))
    if given[0] == (DYNAMIC,) * 3:
        if sizes is None:
            reason = "has -1 for the batch axis, but the model has none"
            fix = "Write the bounds of that axis." if shape[0] == DYNAMIC else f"Write the size of that axis: {shape[0]}."
            raise CompileError(where, reason, fix, value=str(list(spec.min)))
        given[0] = sizes
    for axis, (bounds, dimension) in enumerate(zip(given, shape, strict=True)):
        if dimension != DYNAMIC and set(bounds) != {dimension}:
            reason = f"contradicts the model: axis {axis} is fixed to {dimension} there"
            raise CompileError(where, reason, f"Write {dimension} on axis {axis} of min, opt and max.", value=_span(bounds))
    if sizes and not (given[0][0] <= sizes[0] and sizes[2] <= given[0][2]):
        reason = f"leaves out batches that the server makes: {sizes[0]} to {sizes[2]}"
        raise CompileError(where, reason, "Write -1 on the batch axis, or change `batch.max`.", value=_span(given[0]))
    small, tuned, large = zip(*given, strict=True)
    return Profile(small, tuned, large)


def _span(bounds: tuple[int, int, int]) -> str:
    return "min {}, opt {}, max {}".format(*bounds)
