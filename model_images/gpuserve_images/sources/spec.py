"""What may be said about where a model comes from."""

from typing import Literal, Self

from pydantic import StrictBool, model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.paths import InsidePath
from gpuserve_images.sources.addresses import HEX_DIGEST, Address, parse

Format = Literal["onnx", "sklearn", "xgboost", "lightgbm", "torch", "tensorflow", "huggingface"]
"""What a model's files are."""


class SourceSpec(Spec):
    """Where the model comes from: exactly one of `file`, `package` and `url`.

    Attributes:
        file: Path of a model file, of a folder, or of a `.zip`, `.tar`, `.tar.gz` or `.tgz` archive of one, relative to the folder
            of the model's YAML file.
        package: An installed Python package that ships the model; its hash-pinned lock pins the model too.
        url: Address of a file, folder or archive: `https://host/path`, `s3://bucket/key`, `gs://bucket/key`,
            `hf://owner/name@<commit>[/path]`, `oci://registry/repository@sha256:<digest>` or `pvc://claim/path` (a volume that the
            in-cluster builder mounts). Credentials come from each kind's usual place: `~/.netrc`; AWS and Google variables and
            files; `HF_TOKEN` or the Hugging Face login; Docker's configuration.
        path: Path of the model below the package's folder, or inside the folder or archive. Default: the only model in it.
        sha256: Digest that the content must have: of a file (or archive) its SHA-256, of a folder the tree digest that
            `gpuserve images pin` prints. Required for `https`, `s3`, `gs` and `pvc` addresses.
        format: What the files are. Default: told by name and content; required where neither is known before the download.
        include: Of an address with several files (repository, bucket prefix, artifact, image, archive) only the files that match one of
            these globs, such as `*.safetensors`. Default: all.
        allow_pickle: Whether an address may give formats that run code when they are loaded (all of `format: sklearn`, pickle, joblib,
            PyTorch's `.pt`, `.mar`, NumPy object arrays). Default: no. Files and packages of this machine are trusted.
    """

    file: str | None = None
    package: str | None = None
    url: str | None = None
    path: InsidePath | None = None
    sha256: str | None = None
    format: Format | None = None
    include: tuple[InsidePath, ...] = ()
    allow_pickle: StrictBool = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if [self.file, self.package, self.url].count(None) != 2:  # noqa: PLR2004 - two of three places are not given
            msg = "names no single place of the model; give one of `file:`, `url:`, or `package:` with `path:`"
            raise ValueError(msg)
        if self.package is not None and self.path is None:
            msg = "`package` and `path` belong together; write {package: magika, path: models/model.onnx}"
            raise ValueError(msg)
        if self.sha256 is not None and not HEX_DIGEST.fullmatch(self.sha256):
            msg = f"has a `sha256` that is no digest ({self.sha256}); write its 64 hex digits in lower case"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _pinned_address(self) -> Self:
        if self.url is None:
            for field in ("allow_pickle", "include"):
                if getattr(self, field):
                    msg = f"is of this machine, and `{field}` is for addresses; remove `{field}:`"
                    raise ValueError(msg)
            return self
        address = parse(self.url)
        if self.include and address.scheme == "pvc":
            msg = "is a volume, which is read where it lies; name a folder without the other files, and remove `include:`"
            raise ValueError(msg)
        if not address.names_content and self.sha256 is None:
            msg = (
                f"is not pinned: what {address.shown} gives can change; "
                f"add `sha256:` (`gpuserve images pin {address.shown}` prints it)"
            )
            raise ValueError(msg)
        return self

    @property
    def address(self) -> Address | None:
        """The address taken apart, or None for a source of this machine."""
        return None if self.url is None else parse(self.url)
