"""What was asked of `gpuserve bench`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve.cli.bench_options import duration, ranges, shapes

if TYPE_CHECKING:
    from gpuserve_images.spec import ModelSpec
    from gpuserve_images.verify.spec import GenerateSpec, SloSpec


@dataclass(frozen=True)
class Wish:
    """The options of the command, read: see `gpuserve bench --help`."""

    file: Path | None
    url: str
    model: str
    host: str
    protocol: str
    build: str
    concurrencies: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float
    warm_up: float
    slo: str
    threads: int
    shapes: tuple[str, ...]
    ranges: tuple[str, ...]
    seed: int
    timeout: float

    def declared(self) -> "ModelSpec | None":
        """Return the model's YAML, or None where none was given."""
        from gpuserve_images.spec import load_model

        if self.file is None or self.file.suffix not in {".yaml", ".yml"}:
            return None
        return load_model(self.file)

    def name(self) -> str:
        """Return the name of the model: the YAML's, else the file's, else that in the server; empty where nothing was named."""
        declared = self.declared()
        if declared is not None:
            return declared.name
        return self.file.stem if self.file is not None and not self.url else self.model

    def generate(self, declared: "ModelSpec | None", names: Mapping[str, str] | None = None) -> "GenerateSpec | None":
        """Return how inputs are made up, or None where the YAML's samples are used.

        Args:
            declared: The model's YAML.
            names: What the options call its inputs, where they call them otherwise; options about others are not about this model.
        """
        from gpuserve_images.verify.spec import GenerateSpec

        said = {"shapes": shapes(self.shapes), "ranges": ranges(self.ranges)}
        if names is not None:
            said = {field: {own: given[name] for own, name in names.items() if name in given} for field, given in said.items()}
        if declared is None:
            return GenerateSpec.parse({"seed": self.seed, **said})
        spec = declared.verify.generated
        if spec is None:
            return GenerateSpec.parse({"seed": self.seed, **said}) if any(said.values()) else None
        merged = {"shapes": {**spec.shapes, **said["shapes"]}, "ranges": {**spec.ranges, **said["ranges"]}}
        return GenerateSpec.parse({"count": spec.count, "seed": self.seed or spec.seed, **merged})

    def promise(self, declared: "ModelSpec | None") -> "SloSpec | None":
        """Return the latency bound: the option's, else the YAML's."""
        from gpuserve_images.verify.spec import SloSpec

        if self.slo:
            return SloSpec(latency_p95=duration("--slo", self.slo))
        return declared.slo if declared else None
