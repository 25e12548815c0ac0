"""What may be said about sample inputs."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import WHOLE
from gpuserve_images.paths import InsidePath


class SampleSpec(Spec):
    """Some real files: those below a folder or an installed package that match a pattern.

    Attributes:
        folder: Folder with samples, relative to the folder of the model's YAML file.
        package: An installed Python package whose own files are the samples.
        glob: Pattern below it, as `pathlib.Path.glob` reads it. Default: every file.
        limit: At most so many, picked by a hash of their paths: evenly spread, and the same each time. Default: all.
    """

    folder: str | None = None
    package: str | None = None
    glob: InsidePath = "**/*"
    limit: Annotated[int, Field(ge=1, strict=True), WHOLE] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.folder is None) == (self.package is None):
            msg = "names no single place of samples; give either `folder:` or `package:`"
            raise ValueError(msg)
        return self


def _as_list(value: object) -> object:
    items = value if isinstance(value, list | tuple) else [value]
    return [{"folder": item} if isinstance(item, str) else item for item in items]


WrittenSamples = str | SampleSpec | list[str | SampleSpec]
"""How samples are written."""

Samples = Annotated[
    tuple[SampleSpec, ...], BeforeValidator(_as_list, json_schema_input_type=WrittenSamples), Field(min_length=1)
]
"""One or more `SampleSpec`; a plain string is a folder."""
