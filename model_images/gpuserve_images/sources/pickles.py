"""Files that run code when they are loaded: found by name before a download, and by content after it."""

import ast
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from gpuserve_images.errors import SourceError

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
# Compressed joblib files: zlib, gzip, bzip2, xz, lzma, lz4 (joblib/compressor.py). gzip is an archive's, too, and is told by name.
_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"\x04\x22\x4d\x18")
_FIX = (
    "Take the model in a form that is data only (ONNX, safetensors, XGBoost JSON, LightGBM text), leave the file out with `include:`, "
    "or, when you trust who made it, write `allow_pickle: true`."
)


def refuse_names(where: str, names: Iterable[str]) -> None:
    """Refuse files whose names say that they hold pickles; nothing has been downloaded yet.

    Raises:
        SourceError: With the first such file.
    """
    for name in names:
        plain = PurePosixPath(name).name.lower()
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
    if _PICKLE.match(head):
        return "it starts as one"
    if head.startswith(_NPY):
        return "it is a NumPy array of Python objects" if _holds_objects(head) else None
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(path)
    if head.startswith(_COMPRESSED) and path.suffix not in {".bz2", ".xz"}:
        return "it is compressed as joblib does"
    return None


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
