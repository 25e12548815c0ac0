"""Files that run code when they are loaded: refused by format and name before a download, and by content after it.

Format and name are what protects: no look at a file's first bytes finds every pickle (the code may come after any amount of data), so
what nothing but an unpickler loads is refused whatever is in it. The content is a second look at files that pass for something else.
"""

import ast
import bz2
import gzip
import io
import lzma
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from gpuserve_images.errors import SourceError
from gpuserve_images.sources.spec import Format

# scikit-learn's files are pickles and nothing else. Boosters are read by their own parsers, `.safetensors` and SavedModels hold data,
# and PyTorch's other files are known by name.
_FORMATS: frozenset[Format] = frozenset({"sklearn"})

# PyTorch's loader of `.pt2` falls back to full unpickling (torch/_export/serde/serialize.py, `weights_only=False`).
_SUFFIXES = frozenset(
    {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".pt2", ".mar", ".ckpt", ".dill", ".cloudpickle", ".keras", ".h5", ".hdf5"}
)
_NAMES = re.compile(r"(pytorch_model|optimizer|training_args|scheduler|rng_state).*\.bin")
_INSIDE = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_NPY = b"\x93NUMPY"
_HEAD_BYTES = 4096
# A pickle of protocol 2 or later starts with PROTO and its number (pickletools.opcodes).
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# Those of before have no start of their own: they are told by a global with a name that Python can have, and a call of it. Arguments
# of a call are a tuple or follow a mark, which a list of words (`c`, `b` and `R` are instructions, too) does not have.
_ARGUMENTS = frozenset({"MARK", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_CALLS = frozenset({"INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"})
_DOTTED = re.compile(r"[^\W\d][\w.]* [^\W\d][\w.]*")
# Compressed joblib files: zlib, bzip2, xz, lzma, lz4 (joblib/compressor.py).
_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"\x04\x22\x4d\x18")
# Compressions that files of other kinds have as well, so that what is inside decides.
_UNPACKERS = ((b"\x1f\x8b", gzip.GzipFile), (b"BZh", bz2.BZ2File), (b"\xfd7zXZ", lzma.LZMAFile))
_PACKED = (".gz", ".gzip", ".bz2", ".xz", ".lzma", ".z", ".zlib", ".lz4", ".zst")
_FIX = (
    "Take the model in a form that is data only (ONNX, safetensors, XGBoost JSON, LightGBM text), leave the file out with `include:`, "
    "or, when you trust who made it, write `allow_pickle: true`."
)


def refuse_format(where: str, form: Format) -> None:
    """Refuse a format whose files are all pickles.

    Raises:
        SourceError: When it is such a format.
    """
    if form in _FORMATS:
        raise _refusal(where, form, "every model file of this format is one")


def refuse_names(where: str, names: Iterable[str]) -> None:
    """Refuse files whose names say that they hold pickles; nothing has been downloaded yet.

    Raises:
        SourceError: With the first such file.
    """
    for name in names:
        plain = PurePosixPath(name).name.lower()
        while plain.endswith(_PACKED):
            plain = plain.rpartition(".")[0]
        if PurePosixPath(plain).suffix in _SUFFIXES or _NAMES.fullmatch(plain):
            raise _refusal(where, name, "its name says so")


def refuse_contents(where: str, files: Iterable[tuple[str, Path]]) -> None:
    """Refuse files whose content is pickled, whatever they are called.

    Raises:
        SourceError: With the first such file.
    """
    for name, path in files:
        found = pickled(path)
        if found is not None:
            raise _refusal(where, name, found)


def pickled(path: Path) -> str | None:
    """Return what in a file's content is pickled, or None."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    found = _by_head(head)
    if found is not None:
        return found
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(path)
    for start, unpack in _UNPACKERS:
        if head.startswith(start) and _by_head(_unpacked(path, unpack)) is not None:
            return "it is compressed as joblib does"
    if head.startswith(_COMPRESSED) and path.suffix not in {".bz2", ".xz"}:
        return "it is compressed as joblib does"
    return None


def _by_head(head: bytes) -> str | None:
    if _PICKLE.match(head) or _is_old_pickle(head):
        return "it starts as one"
    if head.startswith(_NPY) and _holds_objects(head):
        return "it is a NumPy array of Python objects"
    return None


def _is_old_pickle(head: bytes) -> bool:
    """Tell whether bytes are a pickle without a start that calls something: every byte up to the call is an instruction."""
    named = arguments = False
    try:
        for operation, argument, _ in pickletools.genops(io.BytesIO(head)):
            if operation.name in {"GLOBAL", "INST"} and not _DOTTED.fullmatch(str(argument)):
                return False
            named |= operation.name in {"GLOBAL", "INST", "STACK_GLOBAL"}
            arguments |= operation.name in _ARGUMENTS
            if named and arguments and operation.name in _CALLS:
                return True
    except (ValueError, OverflowError):
        # No instruction, or the end of what was read.
        return False
    return False


def _unpacked(path: Path, unpack: type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]) -> bytes:
    """Return the first bytes of a compressed file's content; of a damaged one none, for no loader reads it either."""
    try:
        with unpack(path) as stream:
            return stream.read(_HEAD_BYTES)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""


def _in_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(_INSIDE):
                    return f"it is an archive with {name}"
                if name.endswith(".npy"):
                    with archive.open(name) as stream:
                        if _holds_objects(stream.read(_HEAD_BYTES)):
                            return f"it is an archive with an array of Python objects, {name}"
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError):
        # Damaged, encrypted or of an unknown method: no loader of pickles reads it either.
        return None
    return None


def _holds_objects(head: bytes) -> bool:
    """Tell whether a `.npy` header declares Python objects (numpy/lib/format.py); what cannot be read counts as such."""
    wide = head[6:7] != b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    try:
        header = ast.literal_eval(head[start : start + length].decode("latin1").strip())
        return "O" in str(header["descr"])
    except (ValueError, SyntaxError, KeyError, TypeError):
        return True


def _refusal(where: str, name: str, why: str) -> SourceError:
    reason = f"is a pickle, which runs code of whoever wrote it when it is loaded ({why})"
    return SourceError(where, reason, _FIX, value=name)
