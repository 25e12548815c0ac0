"""From stack and model files to a validated platform, with every problem of a file at once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.kubernetes.yaml_text import YamlSyntaxError, read_yaml
from gpuserve.monitoring.spec import SloSpec, stack_label
from gpuserve.platform.checks import NO_SUCH_MODEL, NO_SUCH_POOL, problems
from gpuserve.platform.cluster import cluster_choice
from gpuserve.platform.encrypted import encrypted_problems
from gpuserve.platform.spec import PlatformSpec
from gpuserve_images.spec import ModelSpec, load_model

if TYPE_CHECKING:
    from pydantic import ValidationError

CONFIG_KEY = "gpuserve:platform"


@dataclass(frozen=True)
class Environment:
    """A validated platform together with its models.

    Attributes:
        platform: What the stack file says.
        models: The models its services name, by name.
        folder: Folder of the model files; paths in them are relative to it.
        label: What tells its monitoring from that of other stacks: the stack's name. Default ``main``.
        cluster: Which cluster the stack file names, for commands that ask it. Default: that of the environment.
    """

    platform: PlatformSpec
    models: Mapping[str, ModelSpec]
    folder: Path
    label: str = "main"
    cluster: ClusterChoice = AMBIENT


def stack_file(stack: str, stacks: Path) -> Path:
    """Return where a stack is declared."""
    return stacks / f"Pulumi.{stack}.yaml"


def stack_name(file: Path) -> str:
    """Return the stack that a file declares."""
    return file.name.removeprefix("Pulumi.").removesuffix(".yaml")


def stack_names(stacks: Path) -> list[str]:
    """Return the names of all stacks that are declared in a folder."""
    return sorted(stack_name(file) for file in stacks.glob("Pulumi.*.yaml"))


def load_stack(stack: str, stacks: Path = Path("stacks")) -> Environment:
    """Read ``<stacks>/Pulumi.<stack>.yaml`` and the models it names.

    Raises:
        SpecError: With every problem of the files.
    """
    file = stack_file(stack, stacks)
    document = _read_yaml(file, known=stack_names(stacks))
    config = document.get("config")
    if not isinstance(config, Mapping) or CONFIG_KEY not in config:
        fix = f"add `config:` with a `{CONFIG_KEY}:` object (see docs)"
        raise SpecError.of(f"config.{CONFIG_KEY}", None, "is required but missing", fix, str(file))
    values = cast("Mapping[str, Any]", config)
    encrypted = list(encrypted_problems(values[CONFIG_KEY], f"config.{CONFIG_KEY}", str(file)))
    if encrypted:
        raise SpecError(encrypted)
    environment = load_environment(values[CONFIG_KEY], file=file, path=f"config.{CONFIG_KEY}")
    return replace(environment, cluster=cluster_choice(values, str(file)))


def load_environment(data: object, *, file: Path, path: str) -> Environment:
    """Validate the platform object ``data`` that stands at ``path`` of ``file``, and load its models.

    Raises:
        SpecError: With every problem found in the stack file and in the model files.
    """
    if not isinstance(data, Mapping):
        fix = "write an object with `registry:`, `pools:` and `services:`"
        raise SpecError.of(path, data, "is not an object", fix, str(file))
    platform, found, kept = _parse(cast("Mapping[str, Any]", data), str(file), path)
    if platform is None:
        raise SpecError(found)
    folder = file.parent / platform.models
    models, broken = _load_models(folder)
    wanted = {service.model_name for service in platform.services}
    found += [problem for name, items in broken.items() if name in wanted for problem in items]
    # What is there and is wrong was said already; it is not missing.
    there = {NO_SUCH_MODEL: broken.keys(), NO_SUCH_POOL: _pool_names(data)}
    for problem in problems(platform, models):
        if problem.value not in there.get(problem.reason, ()):
            counted = _as_in_the_file(problem, kept)
            found.append(replace(counted, field=f"{path}.{counted.field}", file=str(file)))
    if found:
        raise SpecError(found)
    return Environment(platform, {name: models[name] for name in sorted(wanted)}, folder, stack_label(stack_name(file)))


def _parse(data: Mapping[str, Any], file: str, path: str) -> tuple[PlatformSpec | None, list[Problem], dict[str, list[int]]]:
    """Parse, and where items of a list are wrong, parse again without them, so that the rest is checked in the same run.

    Returns:
        The platform, or None where not even the rest can be parsed; what is wrong; and for each list the places in the file of the items
        that the platform has, in its order; empty where it has all.
    """
    try:
        return PlatformSpec.parse(data, file=file, path=path), [], {}
    except SpecError as error:
        found = list(error.problems)
        cause = cast("ValidationError", error.__cause__)
        bad = {(loc[0], loc[1]) for loc in (d["loc"] for d in cause.errors()) if len(loc) > 1 and isinstance(loc[1], int)}
    kept = {
        key: [place for place in range(len(value)) if (key, place) not in bad]
        for key, value in data.items()
        if isinstance(value, list)
    }
    pruned = {key: [value[place] for place in kept[key]] if key in kept else value for key, value in data.items()}
    try:
        return PlatformSpec.parse(pruned), found, kept
    except SpecError:
        return None, found, kept


def _as_in_the_file(problem: Problem, kept: Mapping[str, list[int]]) -> Problem:
    """Return `problem` with the items counted as in the file: ``services[0]`` of a platform without its first is ``services[1]``."""

    def original(item: re.Match[str]) -> str:
        places = kept.get(item[1])
        return f"{item[1]}[{places[int(item[2])]}]" if places else item[0]

    field, reason = (re.sub(r"(?<![\w.])(\w+)\[(\d+)\]", original, text) for text in (problem.field, problem.reason))
    return replace(problem, field=field, reason=reason)


def _pool_names(data: Mapping[str, Any]) -> set[object]:
    pools: object = data.get("pools")
    if not isinstance(pools, list):
        return set()
    names = (cast("Mapping[str, Any]", pool).get("name") for pool in pools if isinstance(pool, Mapping))
    return {name for name in names if isinstance(name, str)}


def _load_models(folder: Path) -> tuple[dict[str, ModelSpec], dict[str, list[Problem]]]:
    """Return the models by the names of their files, and what is wrong with the other files."""
    models: dict[str, ModelSpec] = {}
    wrong: dict[str, list[Problem]] = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            model = load_model(file)
            _require_alertable(model, file)
        except SpecError as error:
            wrong[file.stem] = list(error.problems)
            continue
        if model.name == file.stem:
            models[file.stem] = model
        else:
            # Services find the model by its file, clients and the image's folder by its name.
            fix = f"write `name: {file.stem}`, or call the file {model.name}.yaml"
            wrong[file.stem] = [Problem("name", model.name, "is not the file's name", fix, str(file))]
    return models, wrong


def _require_alertable(model: ModelSpec, file: Path) -> None:
    """Refuse an availability that no alert can watch, where it is written; `compile` and `bake` take it, for they watch nothing.

    Raises:
        SpecError: When it is such.
    """
    if model.slo is not None and model.slo.availability is not None:
        SloSpec.parse({"service": "any", "availability": str(model.slo.availability)}, file=str(file), path="slo")


def _read_yaml(file: Path, known: list[str]) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        stacks = ", ".join(known) or "none"
        fix = f"use one of the stacks that exist here: {stacks}"
        raise SpecError.of("(file)", None, error.strerror or "cannot be read", fix, str(file)) from error
    except UnicodeDecodeError as error:
        raise SpecError.of("(file)", None, f"is not YAML: {error}", "write it in UTF-8", str(file)) from error
    try:
        document = read_yaml(text)
    except YamlSyntaxError as error:
        raise SpecError.of("(file)", None, f"is not YAML: {error}", error.fix, str(file)) from error
    if not isinstance(document, Mapping):
        raise SpecError.of("(file)", document, "is not a YAML mapping", "start it with `config:`", str(file))
    return cast("Mapping[str, Any]", document)
