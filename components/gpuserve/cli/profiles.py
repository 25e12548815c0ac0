"""`--profile` of `gpuserve compile`: the shapes that an engine accepts, written as `trtexec --minShapes` and its like write them."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gpuserve.kubernetes.errors import Problem, SpecError

if TYPE_CHECKING:
    from gpuserve_images.compile.spec import ProfileSpec

OPTION = "--profile"
EXAMPLE = "write for example --profile input_ids=-1x1:-1x64:-1x512 (smallest, tuned for, largest)"
SHAPE = re.compile(r"-?\d+([x,]-?\d+)*", re.ASCII)
SEPARATOR = re.compile("[x,]")
BOUNDS = 3


def read_profiles(texts: Iterable[str]) -> "dict[str, ProfileSpec]":
    """Read `input_ids=1x1:8x64:16x512` as smallest, tuned and largest shape by input; one shape alone is all three.

    Sizes may stand between commas too, as `--shape` has them.

    Raises:
        SpecError: When one is something else, or an input has two; with every problem found.
    """
    from gpuserve_images.compile.spec import ProfileSpec

    found: dict[str, ProfileSpec] = {}
    problems: list[Problem] = []
    for text in texts:
        name, _, written = text.rpartition("=")
        shapes = written.split(":")
        if not name:
            problems.append(Problem(OPTION, text, "names no input and its shapes", EXAMPLE))
        elif name in found:
            problems.append(Problem(OPTION, text, f"is the second one of input {name!r}", "leave one of them out"))
        elif any(not SHAPE.fullmatch(shape) for shape in shapes):
            wrong = next(shape for shape in shapes if not SHAPE.fullmatch(shape))
            problems.append(Problem(OPTION, text, f"has {wrong!r}, which is no shape", EXAMPLE))
        elif len(shapes) not in {1, BOUNDS}:
            problems.append(Problem(OPTION, text, f"has {len(shapes)} shapes; an engine has three, or one alone", EXAMPLE))
        else:
            small, tuned, large = ([int(size) for size in SEPARATOR.split(shape)] for shape in (shapes * BOUNDS)[:BOUNDS])
            try:
                found[name] = ProfileSpec.parse({"min": small, "opt": tuned, "max": large})
            except SpecError as error:
                problems += [Problem(OPTION, text, problem.reason, problem.fix) for problem in error.problems]
    if problems:
        raise SpecError(problems)
    return found


def generated_shapes(profiles: "Mapping[str, ProfileSpec]") -> dict[str, list[int]]:
    """Return the sizes behind the batch axis that generated inputs have: those that the engine is tuned for."""
    return {name: list(profile.opt[1:]) for name, profile in profiles.items()}


def largest_batch(profiles: "Mapping[str, ProfileSpec]") -> int:
    """Return the largest batch that every profile with a batch of its own takes; 0 where none has."""
    return min((profile.max[0] for profile in profiles.values() if profile.max[0] > 0), default=0)
