"""What was found out about a build: how near it is to its source and how fast it is, as JSON and as a page for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.compile.inspection import EngineSummary
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.differences import Parity
from gpuserve_images.verify.page import page

OF_THE_FILE = "Their differences are those of the ONNX file that they were compiled from, in ONNX Runtime on the CPU."


class VerifyReport(Spec):
    """One build's verification, or a benchmark alone.

    Attributes:
        model: Name of the model.
        build: Name of the build; None for a model that was measured as it is.
        image: Address of its image by digest, where it has one.
        parity: Differences from the source model, for engines those of the ONNX file that they were compiled from; None where they were
            not measured.
        bars: The bars that it met, by name.
        capacity: Its speed; None where it was not measured.
        engines: What its engines are made of, by GPU architecture.
        ran: Differences of the engines themselves, by GPU architecture, of those that were run.
        ran_bars: The bars that those met, by name.
        notes: What a reader must know of these figures. Default: which engines were not run.
    """

    model: str
    build: str | None = None
    image: str | None = None
    parity: Parity | None = None
    bars: Mapping[str, float] = {}
    capacity: Capacity | None = None
    engines: Mapping[str, EngineSummary] = {}
    ran: Mapping[str, Parity] = {}
    ran_bars: Mapping[str, float] = {}
    notes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _noted(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("parity") and "notes" not in data:
            missing = [name for name in data.get("engines", ()) if name not in data.get("ran", ())]
            if missing:
                return {**data, "notes": (engines_not_run(missing),)}
        return data

    def html(self) -> str:
        """Return a self-contained page: no scripts, nothing to load, light or dark as the reader's system is."""
        facts: dict[str, Any] = {"model": self.model, "build": self.build, "image": self.image}
        shown = {name: str(value) for name, value in facts.items() if value}
        return page(shown, self.parity, self.bars, self.capacity, self.engines, self.notes, self.ran, self.ran_bars)


def engines_not_run(architectures: Iterable[str], why: str = "") -> str:
    """Say that no engine of some architectures was run."""
    return f"Engines that were not run: {', '.join(architectures)}{f' ({why})' if why else ''}. {OF_THE_FILE}"
