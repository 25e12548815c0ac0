"""What a model is, said once for all environments: `stacks/models/<name>.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.identifiers import DnsLabel
from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.yaml_text import YamlSyntaxError, read_yaml
from gpuserve_images.compile.spec import COMPILED, RTX_ARCHITECTURES, Architecture, CompileSpec, Engine, ProfileSpec, lacking
from gpuserve_images.export.spec import ExportSpec
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec, short_batch
from gpuserve_images.oci.spec import BakeSpec
from gpuserve_images.optimise.spec import CalibrateSpec, OptimiseLevel, Precision, calibration
from gpuserve_images.samples.spec import WrittenSamples
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.verify.spec import FP16_COSINE, FP32_SCALED_ERROR, TF32_COSINE, BarsSpec, SloSpec, VerifySpec


class BuildSpec(Spec):
    """One way to build the model.

    Attributes:
        engine: What runs it: `onnxruntime`; `tensorrt` (built on the GPU it is for); `tensorrt-rtx` (built ahead of time, without a
            GPU); or `native`, the server's own framework, which is given the source model as it is.
        precision: `fp32` (default), `fp16`, `int8` (static Q/DQ; on CPUs dynamic where parity demands it) or `int8-dynamic`.
        keep_fp32: Operators or node names that `fp16` and INT8 leave alone, besides those that they find by themselves. The error about
            a missed bar of `int8` names the layers that lose most, and how many have to be kept. Default: none.
        optimise: ONNX Runtime's graph optimisation level. Default `auto`: `extended` for CPU servers, and `basic`, which keeps
            to standard ONNX operators, for GPU ones and for `fp16`.
        calibrate: Samples and method of static INT8; required by `int8`.
        architectures: GPUs to build engines for; required by `tensorrt` and `tensorrt-rtx`.
        profiles: Shapes that engines accept, by input; needed where another axis than the batch is free. Default: the batch range.
        compile: How engines are built.
        verify: Bars of this build alone, in place of the model's.
        base: Image to build on: a recipe beside this package, an image reference (best by digest), or `scratch` for an image of the
            model alone, to be mounted as a volume. Default: the server's.
    """

    engine: Engine
    precision: Precision = "fp32"
    keep_fp32: tuple[str, ...] = ()
    optimise: OptimiseLevel = "auto"
    calibrate: Annotated[
        CalibrateSpec | None, BeforeValidator(calibration, json_schema_input_type=WrittenSamples | CalibrateSpec | None)
    ] = None
    architectures: tuple[Architecture, ...] = ()
    profiles: Mapping[str, ProfileSpec] = {}
    compile: CompileSpec = CompileSpec()
    verify: BarsSpec = BarsSpec()
    base: str = ""

    @model_validator(mode="after")
    def _native_is_as_it_is(self) -> Self:
        changes = {
            "precision": self.precision != "fp32",
            "optimise": self.optimise != "auto",
            "verify": bool(self.verify.stated()),
        }
        for name, given in changes.items():
            if given and self.engine == "native":
                msg = f"serves the source model as it is; remove `{name}:` or write `engine: onnxruntime`"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.precision == "int8") != (self.calibrate is not None):
            msg = (
                "int8 needs value ranges; add `calibrate:` with sample inputs"
                if self.calibrate is None
                else "calibrates a build that is not quantised; remove `calibrate:` or write `precision: int8`"
            )
            raise ValueError(msg)
        if self.keep_fp32 and self.precision == "fp32":
            msg = "keeps nodes in fp32 in a build that is fp32 throughout; remove `keep_fp32:`, or write another `precision:`"
            raise ValueError(msg)
        if self.optimise == "extended" and self.precision == "fp16":
            msg = "would get operators of ONNX Runtime's own, which cannot be converted to FP16 safely; write `optimise: basic`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        compiled = self.engine in COMPILED
        if compiled != bool(self.architectures):
            msg = (
                "runs on any machine; remove `architectures:`"
                if self.architectures
                else "does not say for which GPUs; add `architectures: [sm_80, ...]`"
            )
            raise ValueError(msg)
        unknown = set(self.architectures) - set(RTX_ARCHITECTURES)
        if self.engine == "tensorrt-rtx" and unknown:
            msg = (
                f"names {', '.join(sorted(unknown))}, and TensorRT for RTX makes engines for {', '.join(RTX_ARCHITECTURES)} only; "
                "write `engine: tensorrt`, which is built on that GPU, or `engine: onnxruntime`"
            )
            raise ValueError(msg)
        for field, given in (("profiles", self.profiles), ("compile", self.compile.chosen())):
            if given and not compiled:
                msg = f"is not compiled; remove `{field}:` or write `engine: tensorrt-rtx`"
                raise ValueError(msg)
        for option, reason in lacking(self.engine, self.compile).items():
            msg = f"wants compile.{option}, and {self.engine} {reason}; remove `{option}:`"
            raise ValueError(msg)
        if compiled and self.precision == "int8-dynamic":
            msg = "is quantised dynamically, which TensorRT does not take; write `precision: int8` with `calibrate:`"
            raise ValueError(msg)
        if compiled and self.optimise == "extended":
            msg = "would get operators of ONNX Runtime's own, which TensorRT does not take; write `optimise: basic`"
            raise ValueError(msg)
        return self


class ModelSpec(Spec):
    """A model: where it comes from, how it is built, how good a build must be, what its service promises.

    Attributes:
        name: Name of the model in the server and of its image; a stack takes it only where the file is called so too.
        source: Where its files are.
        export: How it becomes ONNX, where it is a model of another framework.
        io: Python file with `encode(path)` and `decode(outputs)`, relative to the YAML file: raw files to tensors and tensors
            to an answer. Without it samples are `.npz` archives of tensors by input name.
        builds: The ways to build it, by name.
        batch: How requests are joined; `none` where the first axis is no batch, but for example the points of a cloud.
        layout: How the server runs it, beyond batches.
        verify: Inputs and bars. Default: generated inputs, and the default bars of fp32 builds.
        slo: Promises of the service. Default: none.
        bake: How the image is made, what is attached to it, and who signs.
    """

    name: DnsLabel
    source: SourceSpec
    export: ExportSpec = ExportSpec()
    io: str | None = None
    builds: Annotated[Mapping[DnsLabel, BuildSpec], Field(min_length=1)]
    batch: Annotated[BatchSpec, BeforeValidator(short_batch, json_schema_input_type=Literal["none"] | BatchSpec)] = BatchSpec()
    layout: LayoutSpec = LayoutSpec()
    verify: VerifySpec = VerifySpec()
    slo: SloSpec | None = None
    bake: BakeSpec = BakeSpec()

    @model_validator(mode="after")
    def _every_build_is_judged(self) -> Self:
        for name, build in self.builds.items():
            if build.engine != "native" and not self.bars(name).stated():
                msg = f"no bar judges build {name!r}; add for example `top1_agreement: 0.99` to `verify:`"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_request_alone_has_no_batch(self) -> Self:
        larger = sorted({size for size in self.verify.batches if size > 1})
        if self.batch.axis == "none" and larger:
            msg = f"verifies batches of {larger}, and the model has no batch axis; remove `verify.batches`, or `batch: none`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _artifacts_hold_models_only(self) -> Self:
        if self.bake.form == "artifact":
            for name, build in self.builds.items():
                if build.base != "scratch" and build.engine != "tensorrt-rtx":
                    msg = f"build {name!r} stands on a server, which no artifact holds; write `base: scratch` in it, or `form: image`"
                    raise ValueError(msg)
        return self

    @property
    def asked_as(self) -> str:
        """The name that clients call it by in the server: its ensemble's, where it has one."""
        return self.layout.ensemble.name if self.layout.ensemble else self.name

    def bars(self, build: str) -> BarsSpec:
        """Return the bars of one build: its own, else the model's, else the default of its precision.

        That is a cosine for fp16, and a `scaled_error` for fp32 where no `max_abs_error` is stated.
        """
        spec = self.builds[build]
        stated = spec.verify.over(self.verify)
        if spec.precision == "fp16":
            return stated.over(BarsSpec(cosine=FP16_COSINE))
        if spec.precision == "fp32" and stated.max_abs_error is None:
            return stated.over(BarsSpec(scaled_error=FP32_SCALED_ERROR))
        return stated

    def engine_bars(self, build: str) -> BarsSpec:
        """Return the bars of one build's engines on their GPU, which rounds more than the processor that runs their ONNX file.

        They are the build's; only where an fp32 build states neither `max_abs_error` nor `scaled_error`, and TF32 is not switched off,
        the default is TF32's.
        """
        spec = self.builds[build]
        stated = spec.verify.over(self.verify)
        if spec.precision == "fp32" and spec.compile.tf32 and stated.max_abs_error is None and stated.scaled_error is None:
            return stated.over(BarsSpec(cosine=TF32_COSINE))
        return self.bars(build)

    def verify_batches(self) -> tuple[int, ...]:
        """Return the batch sizes that parity is measured at, smallest first."""
        if self.batch.axis == "none":
            return (1,)
        return self.verify.batches or tuple(sorted({1, *self.batch.sizes, self.batch.max}))


def load_model(path: Path | str) -> ModelSpec:
    """Read a model's YAML file.

    Raises:
        SpecError: When the file is missing, is not YAML, or says something impossible; all its problems at once.
    """
    return ModelSpec.parse(_read_mapping(Path(path)), file=str(path))


def _read_mapping(path: Path) -> Mapping[str, Any]:
    def problem(reason: str, fix: str, value: object = None) -> SpecError:
        return SpecError.of("(file)", value, reason, fix, str(path))

    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise problem("does not exist", f"create it, or name one of the models {known}") from error
    except YamlSyntaxError as error:
        raise problem(f"is not YAML: {error}", error.fix) from error
    except UnicodeDecodeError as error:
        raise problem(f"is not YAML: {error}", "write it in UTF-8") from error
    if not isinstance(data, Mapping):
        raise problem("is not a mapping of fields", "start with `name:`", type(data).__name__)
    return data
