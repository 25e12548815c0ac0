"""`gpuserve schema`: the JSON Schema of stack files, so that editors complete and check them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gpuserve.cli.output import notice, to_json


def schema(
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - is stdout.", metavar="FILE")] = "-",
) -> None:
    """Print the JSON Schema of stack files; stacks/schema.json is its committed copy."""
    text = to_json(stack_schema()) + "\n"
    if output == "-":
        typer.echo(text, nl=False)
    else:
        Path(output).write_text(text)
        notice(f"{output}: written")


def stack_schema() -> dict[str, Any]:
    """Return the schema of a whole ``Pulumi.<stack>.yaml``; what is not gpuserve's own may hold anything."""
    from gpuserve.platform.load import CONFIG_KEY
    from gpuserve.platform.spec import PlatformSpec

    platform = PlatformSpec.model_json_schema(mode="validation")
    definitions = platform.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpuserve stack file",
        "type": "object",
        "required": ["config"],
        "properties": {
            "config": {"type": "object", "required": [CONFIG_KEY], "properties": {CONFIG_KEY: platform}},
        },
        "$defs": definitions,
    }
