"""`gpuserve schema`: the JSON Schema of stack and model files, so that editors complete and check them."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from gpuserve.cli.output import notice, to_json, write

if TYPE_CHECKING:
    from pydantic import BaseModel

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def schema(
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - is stdout.", metavar="FILE")] = "-",
    model: Annotated[bool, typer.Option("--model", help="The schema of model files instead.")] = False,
) -> None:
    """Print the JSON Schema of stack files, or of model files; stacks/schema.json and stacks/models/schema.json are their copies."""
    text = model_schema_text() if model else schema_text()
    if output == "-":
        typer.echo(text, nl=False)
    else:
        write(Path(output), text)
        notice(f"{output}: written")


def schema_text() -> str:
    """Return the schema as it is committed."""
    return to_json(stack_schema()) + "\n"


def model_schema_text() -> str:
    """Return the schema of model files as it is committed."""
    from gpuserve_images.spec import ModelSpec

    schema = ModelSpec.model_json_schema(mode="validation", schema_generator=_Described)
    return to_json({"$schema": _DIALECT, "title": "gpuserve model file", **schema}) + "\n"


def stack_schema() -> dict[str, Any]:
    """Return the schema of a whole ``Pulumi.<stack>.yaml``; what is not gpuserve's own may hold anything."""
    from gpuserve.platform.load import CONFIG_KEY
    from gpuserve.platform.spec import PlatformSpec

    platform = PlatformSpec.model_json_schema(mode="validation", schema_generator=_Described)
    definitions = platform.pop("$defs", {})
    return {
        "$schema": _DIALECT,
        "title": "gpuserve stack file",
        "type": "object",
        "required": ["config"],
        "properties": {
            "config": {"type": "object", "required": [CONFIG_KEY], "properties": {CONFIG_KEY: platform}},
        },
        "$defs": definitions,
    }


class _Described(GenerateJsonSchema):
    """Takes the description of each field from its class's docstring, so that an editor shows it."""

    def generate(self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation") -> dict[str, Any]:
        return _with_bounds(super().generate(schema, mode))

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Leave titles out: they would only repeat the names."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        result = super().model_schema(schema)
        cls: type[BaseModel] = schema["cls"]
        text = inspect.getdoc(cls) or ""
        described = {
            name: about
            for base in reversed(cls.__mro__)
            if base.__module__.startswith("gpuserve")
            for name, about in _attributes(inspect.getdoc(base) or "")
        }
        result["description"] = text.partition("\n")[0]
        properties: dict[str, dict[str, Any]] = result.get("properties", {})
        for name, field in cls.model_fields.items():
            shown = properties[field.alias or name]
            if name in described:
                shown.setdefault("description", described[name])
        return result


def _with_bounds(schema: Any) -> Any:
    """Return a schema with bounds as editors know them: outside of a validator pydantic leaves its own names of them."""
    if isinstance(schema, list):
        return [_with_bounds(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    found = {key: _with_bounds(value) for key, value in cast("dict[str, Any]", schema).items()}
    # The outer bound is the narrower one.
    return found | {known: found.pop(own) for own, known in _BOUNDS.items() if isinstance(found.get(own), int | float)}


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each entry of a Google docstring's ``Attributes`` section."""
    section = docstring.partition("Attributes:\n")[2].partition("\n\n")[0]
    for entry in re.split(r"\n(?=    \w)", "\n" + section):
        name, found, text = entry.strip().partition(": ")
        if found:
            yield name, " ".join(text.split())
