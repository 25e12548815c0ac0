"""Archives for tests of model sources: whole ones, hostile ones, and where they are fetched from."""

import hashlib
import io
import stat
import tarfile
import zipfile

from e2e_small_model import classifier
from faulty_http import FaultyServer

from gpuserve_images.sources.spec import SourceSpec

ONNX = classifier().SerializeToString()
LIGHTGBM = b"tree\nversion=v4\nnum_class=1\n"
XGBOOST = b'{"learner":{"attributes":{}},"version":[3,2,0]}'
LINK, HARD = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}


def remote(server: FaultyServer, name: str, content: bytes, **more: object) -> SourceSpec:
    """Return the source at a server's address, with its digest."""
    return SourceSpec.parse({"url": server.put(name, content), "sha256": hashlib.sha256(content).hexdigest(), **more})


def member(name: str, content: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar(files: dict[str, bytes], *others: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for info, content in [*(member(name, content) for name, content in files.items()), *others]:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(files: dict[str, bytes], *others: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info, content in others:
            archive.writestr(info, content)
    return packed.getvalue()


def zip_link(name: str, target: str, mode: int = stat.S_IFLNK) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = (mode | 0o644) << 16
    return info, target.encode()
