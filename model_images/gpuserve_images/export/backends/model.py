"""What every back end makes of a file: a model that can export itself and be asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

FREE = -1
"""An axis of any size, as in a Signature."""

Arrays: TypeAlias = dict[str, NDArray[Any]]


class FailureError(Exception):
    """The file cannot be exported, for a reason that a person can put right."""

    def __init__(self, reason: str, fix: str, *, value: str | None = None) -> None:
        """Keep the three parts of an error apart; the file is known to the caller."""
        super().__init__(reason)
        self.reason = reason
        self.fix = fix
        self.value = value


def one_line(error: BaseException) -> str:
    """Return what a framework says on one line, cut where it lists a whole model."""
    return " ".join(str(error).split())[:500]


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: Its name in the exported model.
        dtype: Its NumPy type; `object` for text.
        shape: Its dimensions with the batch axis, `FREE` where any size is allowed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WishedInput:
    """What the user said of an input; a shape of None is the file's own."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Wishes:
    """What the user said: an ExportSpec as plain data, with paths made absolute."""

    opset: int
    inputs: tuple[WishedInput, ...] = ()
    outputs: tuple[str, ...] = ()
    batch: bool = True
    factory: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    signature: str = "serving_default"

    def output_names(self, default: Sequence[str]) -> list[str]:
        """Return the name of each output, the user's own where there are any.

        Raises:
            FailureError: When the user named more or fewer outputs than the model has, or `places` refuses.
        """
        if self.outputs and len(self.outputs) != len(default):
            reason = f"has {len(default)} outputs ({', '.join(default)}), and export.outputs names {len(self.outputs)}"
            raise FailureError(reason, "Name all of them, in this order.", value=", ".join(self.outputs))
        return [self.outputs[place] for place in places(default, self.outputs, "outputs")] if self.outputs else list(default)

    def inputs_of(self, own: Sequence[str]) -> list[WishedInput]:
        """Return the declared inputs in the model's order; as they are where they are fewer or more.

        Raises:
            FailureError: When `places` refuses.
        """
        if len(self.inputs) != len(own):
            return list(self.inputs)
        return [self.inputs[place] for place in places(own, [wish.name for wish in self.inputs], "inputs")]

    def renamed(self, found: Sequence[Port]) -> list[Port]:
        """Return the inputs of a file that says all of them, under the user's names.

        Raises:
            FailureError: When the user declared other ones, or `places` refuses.
        """
        if not self.inputs:
            return list(found)
        wished = self.inputs_of([port.name for port in found])
        declared = [(wish.dtype, wish.shape or port.shape) for wish, port in zip(wished, found, strict=False)]
        if len(wished) != len(found) or declared != [(port.dtype, port.shape) for port in found]:
            takes = ", ".join(f"{port.name}: {port.dtype} {list(port.shape)}" for port in found) or "nothing"
            fix = "Declare the same in export.inputs, in this order, or nothing."
            raise FailureError(f"takes {takes}", fix, value=", ".join(wish.name for wish in self.inputs))
        return [Port(wish.name, port.dtype, port.shape) for wish, port in zip(wished, found, strict=True)]


def places(own: Sequence[str], said: Sequence[str], role: str) -> list[int]:
    """Return for each tensor of a model where in the user's list its name stands: the model's own names by name, new ones in order.

    Args:
        own: What the model calls them.
        said: What the user calls them, as many.
        role: `inputs` or `outputs`.

    Raises:
        FailureError: When some names are the model's own and stand at another's place, and others are new.
    """
    if set(own) == set(said):
        return [said.index(name) for name in own]
    moved = [name for place, name in enumerate(said) if name in own and own[place] != name]
    if moved:
        reason = f"calls its {role} {', '.join(own)}, and export.{role} gives {moved[0]!r} another place and others new names"
        fix = f"Name the {role} as the model does, in any order, or name them anew, in the model's order."
        raise FailureError(reason, fix, value=", ".join(said))
    return list(range(len(own)))


class Model(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> Sequence[Port]:
        """What it takes, in order."""
        ...

    @property
    def outputs(self) -> Sequence[Port]:
        """What it gives, in the order that the exported graph has."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was chosen by itself, and why."""
        ...

    def export(self, out: Path) -> None:
        """Write the model as ONNX; names and free axes of inputs and outputs are set by the caller afterwards."""
        ...

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Return the outputs in order, computed by the framework itself."""
        ...


@runtime_checkable
class TakesMissing(Protocol):
    """A model that may answer rows with missing numbers, of which generated inputs hold none."""

    def missing(self) -> Arrays:
        """Return pairs of rows that the model answers: a whole one, and the same with a number missing; empty where it answers none."""
        ...
