"""Errors about a model file without a YAML, in the words of the options that say what fields of the YAML do."""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.errors import SpecError

if TYPE_CHECKING:
    from gpuserve_images.errors import ImageError

BUILD = "model"
"""Name of the one build."""

_OPTIONS = {
    "name": "--name",
    "source.format": "--format",
    f"builds.{BUILD}.engine": "--engine",
    f"builds.{BUILD}.precision": "--precision",
    f"builds.{BUILD}.keep_fp32": "--keep-fp32",
    f"builds.{BUILD}.architectures": "--arch",
    f"builds.{BUILD}.calibrate": "--calibrate",
    f"builds.{BUILD}": "options",
    "batch.max": "--max-batch",
    "profiles": "--profile",
    "verify.inputs": "--samples",
    "verify.generate.shapes": "--shape",
    "verify.generate.ranges": "--range",
    "verify": "--bar",
    "keep_fp32": "--keep-fp32",
}
"""The option that says what a field of the YAML does; of two that a field begins with, the first."""


def _read(text: str) -> Any:
    """Return what a fix writes as YAML."""
    import yaml

    return yaml.safe_load(text)


def _given(option: str, texts: Iterable[str]) -> str:
    """Return an option, once for each text, as a shell takes it."""
    return f"`{' '.join(f'{option} {shlex.quote(text)}' for text in texts)}`"


def _kept(found: re.Match[str]) -> str:
    return f"Give {_given('--keep-fp32', _read(found[1]))}"


def _shapes(found: re.Match[str]) -> str:
    return _given("--shape", (f"{name}={','.join(map(str, sizes))}" for name, sizes in _read(found[1]).items()))


def _profiles(found: re.Match[str]) -> str:
    bounds = {
        name: ":".join("x".join(map(str, profile[bound])) for bound in ("min", "opt", "max"))
        for name, profile in _read(found[1]).items()
    }
    return f"Give {_given('--profile', (f'{name}={shapes}' for name, shapes in bounds.items()))}"


_FIXES: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"Write `keep_fp32: (\[.*\])` in the build": _kept,
    r"`shapes: (\{.*?\})`": _shapes,
    r"Declare `profiles: (\{.*\})`": _profiles,
    r"`(keep_fp32|precision):`": lambda found: f"`--{found[1].replace('_', '-')}`",
    r"change `batch\.max`": "change `--max-batch`",
    r"`verify\.generate\.shapes`": "`--shape`",
    r"`verify\.generate\.ranges`": "`--range`",
    r"`verify\.inputs`": "`--samples`",
    r"`calibrate:`": "`--calibrate`",
    r"in `verify:`": "by `--bar`",
    r"`architectures: \[sm_80, \.\.\.\]`": "`--arch` with your GPU's, for example `--arch sm_80`",
    r"(sm_\w+) to `architectures`": r"`--arch \1`",
    r"`(engine|precision): ([\w-]+)`": r"`--\1 \2`",
    r"`format:`": "`--format`",
    r"Name its file with `path:`": "Name the file itself",
    r"Name one with `path:`": "Name one of these files itself",
}
"""What fixes say of the YAML, as patterns, and what they say instead."""

_YAML_ALONE = re.compile(r"`(allow_pickle|batch|classes|compile|export|include|io|optimise|path):")
"""Fields that no option stands for."""


def by_option(error: "SpecError | ImageError") -> "SpecError | ImageError":
    """Return an error about fields of the YAML, which a model file alone has not, as one about the options that say the same."""
    from gpuserve_images.errors import ImageError

    if isinstance(error, SpecError):
        return SpecError(replace(problem, field=_option(problem.field), fix=_fix(problem.fix)) for problem in error.problems)
    where, fix = _option(error.where), _fix(error.fix)
    return error if (where, fix) == (error.where, error.fix) else ImageError(where, error.reason, fix, value=error.value)


def _option(field: str) -> str:
    """Return `verify.generate.shapes.ids` as `--shape ids`, and what is no such field as it is."""
    for known, option in _OPTIONS.items():
        if field == known or field.startswith((f"{known}.", f"{known}[")):
            rest = re.sub(r"^\[\d+\]", "", field.removeprefix(known)).lstrip(".")
            return f"{option} {rest}".rstrip()
    return field


def _fix(text: str) -> str:
    for pattern, instead in _FIXES.items():
        text = re.sub(pattern, instead, text)
    # Without the file that the field stands in nobody could follow.
    missing = _YAML_ALONE.search(text)
    return (
        f"{text.rstrip('.')} (`{missing[1]}:` stands in a model's YAML: compile that instead of the file)" if missing else text
    )
