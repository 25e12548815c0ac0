"""From a command line to a build: a model's YAML file, or a model file and options that say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.errors import Problem, SpecError, suggestion

if TYPE_CHECKING:
    from gpuserve_images.spec import ModelSpec
    from gpuserve_images.target import Target

YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Chosen:
    """One build of one model.

    Attributes:
        model: The model.
        build: Name of the build.
        folder: Folder that paths of the model are relative to.
    """

    model: "ModelSpec"
    build: str
    folder: Path


@dataclass(frozen=True)
class Options:
    """What a command line says about a model file that has no YAML; an empty value says nothing.

    Attributes:
        name: Name of the model. Default: the file's.
        form: Format of the file. Default: by name and content.
        engine: As in the YAML.
        precision: As in the YAML.
        architectures: As in the YAML.
        samples: Folder of sample inputs.
        calibrate: Folder of calibration samples.
        max_batch: Largest batch. Default: that of the profiles, else 32.
        bars: Bars, by name.
        profiles: Shapes that an engine accepts, by input (see `cli.profiles`).
        shapes: Sizes of generated inputs, by input. Default: those that the profiles are tuned for.
    """

    name: str = ""
    form: str = ""
    engine: str = ""
    precision: str = ""
    architectures: Sequence[str] = ()
    samples: Path | None = None
    calibrate: Path | None = None
    max_batch: int = 0
    bars: Sequence[str] = ()
    profiles: Sequence[str] = ()
    shapes: Sequence[str] = ()

    def given(self) -> list[str]:
        """Return the names of the options that say something."""
        return [name for name, value in vars(self).items() if value]


def choose(model: Path, build: str, options: Options) -> Chosen:
    """Return the build that a command line means.

    Args:
        model: A model's YAML file, or a model file or folder.
        build: Name of a build of the YAML file. Default: its only one.
        options: What is said about a model file.

    Raises:
        SpecError: When the YAML or the options are wrong.
    """
    if model.suffix.lower() not in YAML:
        if build:
            raise _problem("--build", build, "names a build of a YAML file, and the model is a file", "leave it out")
        return _from_file(model, options)
    if options.given():
        reason = f"is said in {model.name}, and {', '.join(options.given())} on the command line too"
        raise _problem("options", None, reason, "change the YAML file, or name the model file itself")
    from gpuserve_images.spec import load_model

    spec = load_model(model)
    if not build and len(spec.builds) > 1:
        raise _problem("--build", None, f"is needed: {model.name} has several builds", suggestion("", spec.builds))
    return Chosen(spec, build or next(iter(spec.builds)), model.parent)


def target_of(server: str, gpu: str) -> "Target":
    """Return where an image will run.

    Args:
        server: The inference server.
        gpu: Architecture such as `sm_80`, `any`, or nothing for a CPU.
    """
    from gpuserve_images.target import Target

    if not gpu:
        return Target(server=server)
    return Target("gpu", None if gpu == "any" else gpu, server)


def _from_file(model: Path, options: Options) -> Chosen:
    from gpuserve.cli.bench_options import shapes
    from gpuserve.cli.profiles import generated_shapes, largest_batch, read_profiles
    from gpuserve_images.spec import ModelSpec

    if not model.exists():
        raise _problem("MODEL", str(model), "does not exist", "name a model's YAML file, a model file or a folder")
    build: dict[str, Any] = {"engine": options.engine or ("tensorrt-rtx" if options.architectures else "onnxruntime")}
    profiles = read_profiles(options.profiles)
    if profiles and build["engine"] == "onnxruntime":
        raise _problem(
            "--profile", options.profiles[0], "bounds an engine's shapes, and none is made", "add --arch, or leave it out"
        )
    if options.shapes and options.samples:
        raise _problem("--shape", options.shapes[0], "sizes generated inputs, and --samples gives real ones", "leave one out")
    sizes = generated_shapes(profiles) | shapes(options.shapes)
    build |= {"profiles": profiles} if profiles else {}
    build |= {"precision": options.precision} if options.precision else {}
    build |= {"architectures": list(options.architectures)} if options.architectures else {}
    build |= {"calibrate": str(options.calibrate.resolve())} if options.calibrate else {}
    verify: dict[str, Any] = dict(_bar(text) for text in options.bars)
    if options.precision == "int8":
        _require_what_int8_needs(options)
    if options.samples:
        verify["inputs"] = str(options.samples.resolve())
    elif sizes:
        verify["generate"] = {"shapes": sizes}
    data: dict[str, Any] = {
        "name": options.name or _name(model),
        "source": {"file": str(model.resolve())} | ({"format": options.form} if options.form else {}),
        "builds": {"model": build},
        "verify": verify,
    }
    most = options.max_batch or largest_batch(profiles)
    data |= {"batch": {"max": most}} if most else {}
    return Chosen(ModelSpec.parse(data), "model", model.parent)


def _require_what_int8_needs(options: Options) -> None:
    """Name the options: the spec's own words are about fields of a YAML file, and there is none."""
    if not options.calibrate:
        fix = "add --calibrate with a folder of sample inputs"
        raise _problem("--precision", "int8", "needs the ranges of values that real inputs have", fix)
    if not options.bars:
        fix = "add for example --bar top1_agreement=0.99"
        raise _problem("--precision", "int8", "strays from the source, and nothing says how far it may", fix)


def _name(model: Path) -> str:
    """Return a model's name from its file's: letters, digits and hyphens."""
    import re

    return re.sub(r"[^a-z0-9]+", "-", model.stem.lower()).strip("-") or "model"


def _bar(text: str) -> tuple[str, float | str]:
    name, _, value = text.partition("=")
    try:
        return name.replace("-", "_"), value if value == "none" else float(value)
    except ValueError as error:
        raise _problem("--bar", text, "is no bar", "write for example --bar top1_agreement=0.99") from error


def _problem(field: str, value: object, reason: str, fix: str) -> SpecError:
    return SpecError([Problem(field, value, reason, fix)])
