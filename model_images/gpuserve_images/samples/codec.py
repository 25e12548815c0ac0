"""Between raw files and tensors: a model's own `encode` and `decode`, and batches made of them."""

import os
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


TEXTS = "USOT"
"""Kinds of NumPy's arrays of text: str, bytes, objects, and its own strings."""

ARCHIVE = ".npz"
"""End of the names of files that need no codec of the model's own."""


class CodecError(ImageError):
    """A sample or an answer cannot be translated."""


@dataclass(frozen=True)
class Codec:
    """Translates files to a model's inputs and its outputs to an answer.

    Attributes:
        encode: From a file to the tensors of one request; what people write may return anything, see `encoded`.
        decode: From the outputs of one request to the answer in words.
        origin: The Python file both come from, or None for the default.
    """

    encode: Callable[[Path], object]
    decode: "Callable[[Mapping[str, NDArray[Any]]], str]"
    origin: Path | None = None

    def encoded(self, file: Path) -> Tensors:
        """Return the tensors of a file.

        Raises:
            ValueError: When the file is none that the model takes, as `encode` says.
            CodecError: When `encode` fails in another way, or returns something else than arrays by name.
        """
        where = f"{self.origin or 'the default codec'}: encode({file.name})"
        try:
            tensors = self.encode(file)
        except ValueError:
            raise
        except (Exception, SystemExit) as error:
            fix = "Correct the function; for a file that is none of the model's, raise ValueError."
            raise CodecError(where, f"fails: {_said(error)}", fix) from error
        if not isinstance(tensors, Mapping):
            fix = "Return a dict of NumPy arrays by input name; for a file that is none of the model's, raise ValueError."
            raise CodecError(where, "returns no tensors by input name", fix, value=type(tensors).__name__)
        return {str(name): _array(f"{where}[{name!r}]", value) for name, value in tensors.items()}

    def decoded(self, outputs: "Mapping[str, NDArray[Any]]") -> str:
        """Return the answer in words.

        Raises:
            CodecError: When `decode` fails.
        """
        try:
            return self.decode(outputs)
        except (Exception, SystemExit) as error:
            reason = f"fails: {_said(error)}"
            fix = f"Correct the function; it is given the outputs {sorted(outputs)}."
            raise CodecError(f"{self.origin or 'the default codec'}: decode", reason, fix) from error


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
    except (Exception, SystemExit) as error:
        reason = f"fails when it is loaded: {_said(error)}"
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

    @property
    def names(self) -> tuple[str, ...]:
        """What each file is called in a report, which is text; a name need not be."""
        return tuple(os.fsencode(file.name).decode("utf-8", "backslashreplace") for file in self.files)


def encode_all(codec: Codec, files: Sequence[Path], signature: Signature, field: str) -> Encoded:
    """Encode samples, leaving out those that the codec refuses with ValueError, and check them against the signature.

    Raises:
        CodecError: When names, types or shapes do not match the model, or hardly any file could be encoded.
    """
    encoded: dict[Path, Tensors] = {}
    refused = ""
    for file in files:
        try:
            tensors = _with_text(codec.encoded(file), signature, f"{codec.origin or 'the default codec'}: encode({file.name})")
        except ValueError as error:
            refused = f"; {file.name}: {error}"
            continue
        _check(tensors, signature, file, codec)
        encoded[file] = tensors
    if len(encoded) < min(MIN_SAMPLES, len(files)) or not encoded:
        reason = f"has {len(encoded)} usable samples of {len(files)} files{refused}"
        fix = f"Name samples that the model can read, at least {MIN_SAMPLES}."
        if codec.origin is None and any(file.suffix != ARCHIVE for file in files):
            fix += " Files that are no .npz archives need `io:`, a Python file with encode(path) and decode(outputs)."
        raise CodecError(field, reason, fix)
    return Encoded(tuple(encoded), tuple(encoded.values()))


def batches(samples: Sequence[Tensors], size: int) -> Iterator[Tensors]:
    """Join samples along the batch axis; a last batch that is too small is filled up from the front.

    Args:
        samples: Tensors of one request each.
        size: Requests per batch.

    Raises:
        CodecError: When samples have different shapes, so that they cannot be joined.
    """
    for start in range(0, len(samples), size):
        group = list(samples[start : start + size])
        while len(group) < size:
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


def as_declared(array: "NDArray[Any]", shape: Sequence[int]) -> "NDArray[Any]":
    """Return a tensor with one more axis, of size 1, where the server declares that: Triton has no tensor without sizes."""
    return array[..., None] if array.ndim <= 1 and len(shape) == array.ndim + 1 and shape[-1] == 1 else array


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _array(where: str, value: object) -> "NDArray[Any]":
    import numpy as np

    # What is computed from arrays without axes is a NumPy scalar.
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    raise CodecError(where, "is no NumPy array", "Return NumPy arrays of the input's type.", value=type(value).__name__)


def _with_text(tensors: Tensors, signature: Signature, where: str) -> Tensors:
    """Return tensors with the text of BYTES inputs as objects of `str`.

    Archives can hold it as NumPy's own text only, and of other objects ONNX Runtime takes what Python prints of them.

    Raises:
        ValueError: When bytes are no UTF-8.
        CodecError: When an object is no text.
    """
    import numpy as np

    texts = {tensor.name for tensor in signature.inputs if tensor.dtype == "BYTES"}
    found = dict(tensors)
    for name in texts & tensors.keys():
        if tensors[name].dtype.kind == "S":
            found[name] = np.char.decode(tensors[name], "utf-8").astype(object)
        elif tensors[name].dtype.kind == "U":
            found[name] = tensors[name].astype(object)
        elif tensors[name].dtype == np.object_:
            texts = np.empty(tensors[name].size, dtype=object)
            texts[:] = [_text(f"{where}[{name!r}]", value) for value in tensors[name].flat]
            found[name] = texts.reshape(tensors[name].shape)
    return found


def _text(where: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode()
    raise CodecError(where, "holds what is no text", "Return str or bytes for an input of text.", value=type(value).__name__)


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

    reason = "is no .npz archive of tensors by input name"
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            reason = "holds objects, which are not loaded; save text as NumPy's own: np.array(texts, dtype=str)"
            with loaded as archive:
                return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        msg = f"cannot be read, perhaps it was copied in part: {error}"
        raise ValueError(msg) from error
    except ValueError as error:
        # NumPy takes what it does not know for a pickle, and says so.
        raise ValueError(reason) from error
    raise ValueError(reason)


def _print_arrays(outputs: "Mapping[str, NDArray[Any]]") -> str:
    import numpy as np

    return "\n".join(f"{name}: {np.array2string(array, threshold=16)}" for name, array in outputs.items())
