"""Names of images: what a registry and the kubelet take for one."""

import re
from typing import Annotated, Any

from pydantic import PlainValidator

from gpuserve.kubernetes.outputs import is_output

REFERENCE = re.compile(
    r"(?:(?P<registry>localhost(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+)/)?"
    r"(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
"""The grammar of https://github.com/distribution/reference (regexp.go), with the parts named."""


def _image(value: object) -> object:
    if is_output(value):
        return value
    if not isinstance(value, str) or not value:
        msg = "is neither text nor a Pulumi Output; pass an image's name"
        raise ValueError(msg)
    if not REFERENCE.fullmatch(value):
        msg = (
            "is no image's name (registry/repository[:tag][@sha256:digest], lower case, no spaces); write for example "
            "localhost:5000/models/filetype:1"
        )
        raise ValueError(msg)
    return value


ImageInput = Annotated[Any, PlainValidator(_image, json_schema_input_type=str)]
"""An image's name; a Pulumi Output is one as well, which nobody can look at yet."""
