"""What a model is, said once for all environments: `stacks/models/<name>.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import DnsLabel
from gpuserve_images.compile.spec import Architecture
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.optimise.spec import CalibrateSpec, OptimiseLevel, Precision, calibration
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.verify.spec import FP32_MAX_ABS_ERROR, BarsSpec, SloSpec, VerifySpec

Engine = Literal["onnxruntime", "tensorrt-rtx"]


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
    calibrate: Annotated[CalibrateSpec | None, BeforeValidator(calibration)] = None
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


class ModelSpec(Spec):
    """A model: where it comes from, how it is built, how good a build must be, what its service promises.

    Attributes:
        name: Name of the model in the server and of its image.
        source: Where the ONNX file is.
        io: Python file with `encode(path)` and `decode(outputs)`, relative to the YAML file: raw files to tensors and tensors
            to an answer. Without it samples are `.npz` archives of tensors by input name.
        builds: The ways to build it, by name.
        batch: How requests are joined.
        verify: Inputs and bars. Default: generated inputs, and the default bars of fp32 builds.
        slo: Promises of the service. Default: none.
    """

    name: DnsLabel
    source: SourceSpec
    io: str | None = None
    builds: Annotated[Mapping[DnsLabel, BuildSpec], Field(min_length=1)]
    batch: BatchSpec = BatchSpec()
    verify: VerifySpec = VerifySpec()
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
