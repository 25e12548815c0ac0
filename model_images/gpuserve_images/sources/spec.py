"""What may be said about where a model comes from."""

from typing import Self

from pydantic import model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.paths import InsidePath


class SourceSpec(Spec):
    """Where the model file comes from: exactly one of `file` and `package`.

    Attributes:
        file: Path of an ONNX file, relative to the folder of the model's YAML file.
        package: An installed Python package that ships the model; its hash-pinned lock pins the model too.
        path: Path of the model below that package's folder.
    """

    file: str | None = None
    package: str | None = None
    path: InsidePath | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.package is None):
            msg = "names no single place of the model; give either `file:` or `package:` with `path:`"
            raise ValueError(msg)
        if (self.package is None) != (self.path is None):
            msg = "`package` and `path` belong together; write {package: magika, path: models/model.onnx}"
            raise ValueError(msg)
        return self
