"""Between raw files and tensors: a model's own `encode` and `decode`, and batches made of them."""

import runpy
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from gpuserve_images.errors import ImageError
from gpuserve_images.onnx_model.signature import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensors: TypeAlias = "dict[str, NDArray[Any]]"
"""Tensors by name; with a batch axis, a single request has a batch of 1."""

MIN_SAMPLES = 8
"""Fewer encodable samples than this judge nothing: one disagreement would be more than ten percent."""


class CodecError(ImageError):
    """A sample or an answer cannot be translated."""


@dataclass(frozen=True)
class Codec:
    """Translates files to a model's inputs and its outputs to an answer.

    Attributes:
        encode: From a file to the tensors of one request.
        decode: From the outputs of one request to the answer in words.
        origin: The Python file both come from, or None for the default.
    """

    encode: Callable[[Path], Tensors]
    decode: "Callable[[Mapping[str, NDArray[Any]]], str]"
    origin: Path | None = None


def io_path(io: str | None, folder: Path) -> Path | None:
    """Return the file that `io` names, or None when the model has none.

    Raises:
        CodecError: When it does not exist.
    """
    if io is None:
        return None
    path = (folder / io).resolve()
    if not path.is_file():
        raise CodecError("io", f"does not exist (looked for {path})", "Name a Python file beside the model's YAML.", value=io)
    return path


def load_codec(io: str | None, folder: Path) -> Codec:
    """Return the model's codec: its own, or the default one, which reads `.npz` archives and prints arrays.

    Raises:
        CodecError: When the file is missing, fails, or lacks one of the two functions.
    """
    path = io_path(io, folder)
    if path is None:
        return Codec(_load_npz, _print_arrays)
    try:
        names = runpy.run_path(str(path))
    except Exception as error:
        reason = f"fails when it is loaded: {type(error).__name__}: {error}"
        raise CodecError(str(path), reason, "Correct the file, or install what it imports.") from error
    for name in ("encode", "decode"):
        if not callable(names.get(name)):
            raise CodecError(str(path), f"defines no function `{name}`", "Write encode(path) and decode(outputs).")
    return Codec(names["encode"], names["decode"], path)


@dataclass(frozen=True)
class Encoded:
    """Samples that a model can take, and the files they came from, in the same order."""

    files: tuple[Path, ...]
    tensors: tuple[Tensors, ...]


def encode_all(codec: Codec, files: Sequence[Path], signature: Signature, field: str) -> Encoded:
    """Encode samples, leaving out those that the codec refuses with ValueError, and check them against the signature.

    Raises:
        CodecError: When names, types or shapes do not match the model, or hardly any file could be encoded.
    """
    encoded: dict[Path, Tensors] = {}
    refused = ""
    for file in files:
        try:
            tensors = codec.encode(file)
        except ValueError as error:
            refused = f"; {file.name}: {error}"
            continue
        _check(tensors, signature, file, codec)
        encoded[file] = tensors
    if len(encoded) < min(MIN_SAMPLES, len(files)) or not encoded:
        reason = f"has {len(encoded)} usable samples of {len(files)} files{refused}"
        raise CodecError(field, reason, f"Name samples that the model can read, at least {MIN_SAMPLES}.")
    return Encoded(tuple(encoded), tuple(encoded.values()))


def batches(samples: Sequence[Tensors], size: int, *, whole: bool = False) -> Iterator[Tensors]:
    """Join samples along the batch axis; with `whole`, a last batch that is too small is filled up from the front.

    Args:
        samples: Tensors of one request each.
        size: Requests per batch.
        whole: Make every batch exactly `size` long.

    Raises:
        CodecError: When samples have different shapes, so that they cannot be joined.
    """
    for start in range(0, len(samples), size):
        group = list(samples[start : start + size])
        while whole and len(group) < size:
            group.append(samples[len(group) % len(samples)])
        # A model without a batch axis may take numbers without any axis, which cannot be joined.
        yield group[0] if size == 1 else {name: _joined(name, [tensors[name] for tensors in group]) for name in group[0]}


def _joined(name: str, arrays: "Sequence[NDArray[Any]]") -> "NDArray[Any]":
    import numpy as np

    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1:
        reason = f"has other sizes in one sample than in another, so they cannot be joined to a batch of {len(arrays)}"
        fix = "Use samples of one size (padded by `encode`, say), or write `verify: {batches: [1]}`."
        raise CodecError(f"samples, input {name}", reason, fix, value=" and ".join(str(list(shape)) for shape in shapes[:2]))
    return np.concatenate(arrays)


def _check(tensors: Tensors, signature: Signature, file: Path, codec: Codec) -> None:
    # Without a codec of the model's own, what is wrong is in the archive itself.
    own = codec.origin is not None
    where = f"{codec.origin}: encode({file.name})" if own else f"sample {file.parent.name}/{file.name}"
    wanted = {tensor.name: tensor for tensor in signature.inputs}
    if tensors.keys() != wanted.keys():
        fix = f"{'Return' if own else 'Save'} exactly {sorted(wanted)}."
        raise CodecError(
            where, f"{'returns' if own else 'holds'} other inputs than the model has", fix, value=str(sorted(tensors))
        )
    for name, array in tensors.items():
        tensor = wanted[name]
        # A sample is one request: several rows would be counted, and judged, as one.
        wanted_shape = (1, *tensor.shape[1:]) if signature.batched else tensor.shape
        fits = array.ndim == len(wanted_shape) and all(
            want in (-1, got) for want, got in zip(wanted_shape, array.shape, strict=True)
        )
        if array.dtype != tensor.numpy_dtype or not fits:
            one = "; a request has a batch of 1" if signature.batched else ""
            fix = f"The model wants {tensor.dtype} of shape {list(tensor.shape)}{one}."
            found = f"{array.dtype} {list(array.shape)}"
            raise CodecError(f"{where}[{name!r}]", "has another type or shape than the model's input", fix, value=found)


def _load_npz(path: Path) -> Tensors:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded as archive:
                return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        msg = f"cannot be read, perhaps it was copied in part: {error}"
        raise ValueError(msg) from error
    msg = "is no .npz archive of tensors by input name"
    raise ValueError(msg)


def _print_arrays(outputs: "Mapping[str, NDArray[Any]]") -> str:
    import numpy as np

    return "\n".join(f"{name}: {np.array2string(array, threshold=16)}" for name, array in outputs.items())
