"""What a model is, said once for all environments: `stacks/models/<name>.yaml`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import DnsLabel, Duration, Percent

Engine = Literal["onnxruntime", "tensorrt-rtx"]
Precision = Literal["fp32", "int8"]
OptimiseLevel = Literal["auto", "none", "basic", "extended"]
CalibrationMethod = Literal["percentile", "minmax", "entropy"]

FP32_MAX_ABS_ERROR = 1e-4
"""Bar of an fp32 build that states none: room for fused arithmetic, none for a changed model."""


def _architecture(value: str) -> str:
    if not re.fullmatch(r"sm_\d{2,3}", value):
        msg = "is not a GPU architecture; write its compute capability without the dot, for example 'sm_80'"
        raise ValueError(msg)
    return value


def _inside(value: str) -> str:
    if Path(value).is_absolute() or ".." in Path(value).parts:
        msg = "leaves the package; write a path below the package's folder"
        raise ValueError(msg)
    return value


Architecture = Annotated[str, AfterValidator(_architecture)]
"""A CUDA architecture such as ``sm_80``: the compute capability 8.0 without its dot."""

InsidePath = Annotated[str, AfterValidator(_inside)]
"""A relative path or glob that stays below the folder it belongs to."""


class SourceSpec(Spec):
    """Where the model file comes from: exactly one of `file` and `package`.

    Attributes:
        file: Path of an ONNX file, relative to the folder of the model's YAML file.
        package: An installed Python package that ships the model; its hash-pinned lock pins the model too.
        path: Path of the model below that package's folder.
    """

    file: str | None = None
    package: str | None = None
    path: InsidePath | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.package is None):
            msg = "names no single place of the model; give either `file:` or `package:` with `path:`"
            raise ValueError(msg)
        if (self.package is None) != (self.path is None):
            msg = "`package` and `path` belong together; write {package: magika, path: models/model.onnx}"
            raise ValueError(msg)
        return self


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
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.folder is None) == (self.package is None):
            msg = "names no single place of samples; give either `folder:` or `package:`"
            raise ValueError(msg)
        return self


def _as_list(value: object) -> object:
    items = value if isinstance(value, list | tuple) else [value]
    return [{"folder": item} if isinstance(item, str) else item for item in items]


Samples = Annotated[tuple[SampleSpec, ...], BeforeValidator(_as_list), Field(min_length=1)]
"""One or more `SampleSpec`; a plain string is a folder."""


class CalibrateSpec(Spec):
    """How value ranges are measured for static INT8.

    Attributes:
        inputs: Samples to measure on. A file that is also a verification sample is used for one of the two only.
        method: How outliers are treated. Default `percentile`: min-max lets one outlier coarsen a whole tensor.
        percentile: Share of values, in percent, that the range must cover. Default 99.999, ONNX Runtime's own.
        keep_head: Leave the layers that make the outputs in fp32. Default true: they are little of the arithmetic and most of
            the loss.
    """

    inputs: Samples
    method: CalibrationMethod = "percentile"
    percentile: float = Field(default=99.999, gt=50, le=100)
    keep_head: bool = True


def _calibrate(value: object) -> object:
    return {"inputs": value} if isinstance(value, str | list | tuple) else value


class BarsSpec(Spec):
    """How near to the source model a build must stay; unset bars do not judge.

    Attributes:
        top1_agreement: Least share (0 to 1) of samples whose largest output is the same class.
        max_abs_error: Largest difference of any output value.
        max_rel_error: Largest difference of any output value, as a share of that value (of values that matter, see `verify`).
        cosine: Least cosine similarity of any sample's output vector.
    """

    top1_agreement: float | None = Field(default=None, ge=0, le=1)
    max_abs_error: float | None = Field(default=None, gt=0)
    max_rel_error: float | None = Field(default=None, gt=0)
    cosine: float | None = Field(default=None, ge=-1, le=1)

    def over(self, base: "BarsSpec") -> "BarsSpec":
        """Return these bars, with those of `base` where these say nothing."""
        fields = BarsSpec.model_fields
        own = {name: getattr(self, name) for name in fields}
        return BarsSpec(**{name: getattr(base, name) if value is None else value for name, value in own.items()})

    def stated(self) -> dict[str, float]:
        """Return the bars that judge, by name."""
        return {name: value for name in BarsSpec.model_fields if (value := getattr(self, name)) is not None}


class VerifySpec(BarsSpec):
    """The samples that every build is compared with its source on, and the bars of all builds.

    Attributes:
        inputs: Real samples.
        batches: Batch sizes to compare at. Default: 1, the preferred ones and the largest.
    """

    inputs: Samples
    batches: tuple[Annotated[int, Field(ge=1)], ...] = ()


class BatchSpec(Spec):
    """How requests are joined into batches.

    Attributes:
        max: Largest batch. Default 32. Ignored by a model without a batch axis.
        preferred: Batch sizes worth waiting for. Default: 8, or the largest where that is smaller.
        queue_delay: Longest that a request waits for company. Default 1ms: far below common latency targets.
    """

    max: int = Field(default=32, ge=1, le=65536)
    preferred: tuple[Annotated[int, Field(ge=1)], ...] = ()
    queue_delay: Duration = Duration("1ms")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(size > self.max for size in self.preferred):
            msg = f"prefers {list(self.preferred)} above the largest batch {self.max}; raise `max` or lower `preferred`"
            raise ValueError(msg)
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The preferred batch sizes, ascending."""
        return tuple(sorted(set(self.preferred))) or (min(8, self.max),)


class BuildSpec(Spec):
    """One way to build the model.

    Attributes:
        engine: What runs it: `onnxruntime`, or `tensorrt-rtx` (engines built ahead of time, without a GPU).
        precision: `fp32` (default) or `int8` (static Q/DQ; dynamic where parity demands it).
        optimise: ONNX Runtime's graph optimisation level. Default `auto`: `extended` for CPU servers, and `basic`, which keeps
            to standard ONNX operators, for GPU ones.
        calibrate: Samples and method of static INT8; required by `int8`.
        architectures: GPUs to build engines for; required by `tensorrt-rtx`.
        verify: Bars of this build alone, in place of the model's.
    """

    engine: Engine
    precision: Precision = "fp32"
    optimise: OptimiseLevel = "auto"
    calibrate: Annotated[CalibrateSpec | None, BeforeValidator(_calibrate)] = None
    architectures: tuple[Architecture, ...] = ()
    verify: BarsSpec = BarsSpec()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.precision == "int8") != (self.calibrate is not None):
            msg = (
                "int8 needs value ranges; add `calibrate:` with sample inputs"
                if self.calibrate is None
                else "calibrates a build that is not quantised; remove `calibrate:` or write `precision: int8`"
            )
            raise ValueError(msg)
        if (self.engine == "tensorrt-rtx") != bool(self.architectures):
            msg = (
                "does not say for which GPUs; add `architectures: [sm_80, ...]`"
                if not self.architectures
                else "runs on any machine; remove `architectures:`"
            )
            raise ValueError(msg)
        if self.engine == "tensorrt-rtx" and self.precision != "fp32":
            msg = "compiles the source model as it is; write `precision: fp32`"
            raise ValueError(msg)
        return self


class SloSpec(Spec):
    """What the service promises.

    Attributes:
        latency_p95: 95 of 100 requests are answered within this time.
        availability: Share of requests that are answered without an error.
    """

    latency_p95: Duration | None = None
    availability: Percent | None = None


class ModelSpec(Spec):
    """A model: where it comes from, how it is built, how good a build must be, what its service promises.

    Attributes:
        name: Name of the model in the server and of its image.
        source: Where the ONNX file is.
        io: Python file with `encode(path)` and `decode(outputs)`, relative to the YAML file: raw files to tensors and tensors
            to an answer. Without it samples are `.npz` archives of tensors by input name.
        builds: The ways to build it, by name.
        batch: How requests are joined.
        verify: Samples and bars.
        slo: Promises of the service. Default: none.
    """

    name: DnsLabel
    source: SourceSpec
    io: str | None = None
    builds: Annotated[Mapping[DnsLabel, BuildSpec], Field(min_length=1)]
    batch: BatchSpec = BatchSpec()
    verify: VerifySpec
    slo: SloSpec | None = None

    @model_validator(mode="after")
    def _every_build_is_judged(self) -> Self:
        for name, build in self.builds.items():
            if build.engine == "onnxruntime" and not self.bars(name).stated():
                msg = f"no bar judges build {name!r}; add for example `top1_agreement: 0.99` to `verify:`"
                raise ValueError(msg)
        return self

    def bars(self, build: str) -> BarsSpec:
        """Return the bars of one build: its own, else the model's, else the default of its precision."""
        spec = self.builds[build]
        default = BarsSpec(max_abs_error=FP32_MAX_ABS_ERROR) if spec.precision == "fp32" else BarsSpec()
        return spec.verify.over(self.verify.over(default))

    def verify_batches(self) -> tuple[int, ...]:
        """Return the batch sizes that parity is measured at, smallest first."""
        return self.verify.batches or tuple(sorted({1, *self.batch.sizes, self.batch.max}))


@dataclass(frozen=True)
class Target:
    """Where an image will run.

    Attributes:
        kind: `cpu` or `gpu`.
        architecture: CUDA architecture such as `sm_80`, or None where it does not matter.
        server: The inference server whose layout the image has.
    """

    kind: str = "cpu"
    architecture: str | None = None
    server: str = "triton"


def load_model(path: Path) -> ModelSpec:
    """Read a model's YAML file.

    Raises:
        SpecError: When the file is missing, is not YAML, or says something impossible; all its problems at once.
    """
    return ModelSpec.parse(_read_mapping(path), file=str(path))


def _read_mapping(path: Path) -> Mapping[str, Any]:
    def problem(reason: str, fix: str, value: object = None) -> SpecError:
        return SpecError([Problem("(file)", value, reason, fix, str(path))])

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise problem("does not exist", f"create it, or name one of the models {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise problem(f"is not YAML: {' '.join(str(error).split())}", "correct the syntax") from error
    if not isinstance(data, Mapping):
        raise problem("is not a mapping of fields", "start with `name:`", type(data).__name__)
    return data
