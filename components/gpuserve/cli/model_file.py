"""A model file without a YAML: what options of the command line say in its place."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuserve.cli.option_words import BUILD, by_option
from gpuserve.kubernetes.errors import SpecError, suggestion
from gpuserve.kubernetes.identifiers import MAX_LABEL

if TYPE_CHECKING:
    from gpuserve_images.compile.spec import ProfileSpec
    from gpuserve_images.spec import ModelSpec


@dataclass(frozen=True)
class Options:
    """What a command line says about a model file that has no YAML; an empty value says nothing.

    Attributes:
        name: Name of the model. Default: the file's.
        form: Format of the file. Default: by name and content.
        engine: As in the YAML.
        precision: As in the YAML.
        keep_fp32: As in the YAML.
        architectures: As in the YAML.
        samples: Folder of sample inputs.
        calibrate: Folder of calibration samples.
        max_batch: Largest batch. Default: that of the profiles, else 32.
        bars: Bars, by name.
        profiles: Shapes that an engine accepts, by input (see `cli.profiles`).
        shapes: Sizes of generated inputs, by input. Default: those that the profiles are tuned for.
        ranges: Least and largest value of generated inputs, by input. Default: by type.
    """

    name: str = ""
    form: str = ""
    engine: str = ""
    precision: str = ""
    keep_fp32: Sequence[str] = ()
    architectures: Sequence[str] = ()
    samples: Path | None = None
    calibrate: Path | None = None
    max_batch: int = 0
    bars: Sequence[str] = ()
    profiles: Sequence[str] = ()
    shapes: Sequence[str] = ()
    ranges: Sequence[str] = ()

    def given(self) -> list[str]:
        """Return the names of the options that say something."""
        return [name for name, value in vars(self).items() if value]


def model_of(file: Path, options: Options) -> "ModelSpec":
    """Return a model with one build, `BUILD`.

    Args:
        file: The model file, or a folder.
        options: What is said about it.

    Raises:
        SpecError: When something is wrong, named by its option.
    """
    from gpuserve_images.spec import ModelSpec

    if not file.exists():
        raise SpecError.of("MODEL", str(file), "does not exist", "name a model's YAML file, a model file or a folder")
    try:
        return ModelSpec.parse(_fields(file, options))
    except SpecError as error:
        raise by_option(error) from None


def _fields(file: Path, options: Options) -> dict[str, Any]:
    from gpuserve.cli.profiles import largest_batch, read_profiles

    build: dict[str, Any] = {"engine": options.engine or ("tensorrt-rtx" if options.architectures else "onnxruntime")}
    profiles = read_profiles(options.profiles)
    if profiles and build["engine"] == "onnxruntime":
        raise SpecError.of(
            "--profile", options.profiles[0], "bounds an engine's shapes, and none is made", "add --arch, or leave it out"
        )
    build |= {"profiles": profiles} if profiles else {}
    build |= {"precision": options.precision} if options.precision else {}
    build |= {"keep_fp32": list(options.keep_fp32)} if options.keep_fp32 else {}
    build |= {"architectures": list(options.architectures)} if options.architectures else {}
    build |= {"calibrate": str(options.calibrate.resolve())} if options.calibrate else {}
    if options.precision.startswith("int8"):
        _require_what_int8_needs(options)
    data: dict[str, Any] = {
        "name": options.name or _name(file),
        "source": {"file": str(file.resolve())} | ({"format": options.form} if options.form else {}),
        "builds": {BUILD: build},
        "verify": dict(_bar(text) for text in options.bars) | _inputs(options, profiles),
    }
    most = options.max_batch or largest_batch(profiles)
    return data | ({"batch": {"max": most}} if most else {})


def _inputs(options: Options, profiles: "Mapping[str, ProfileSpec]") -> dict[str, Any]:
    """Return what a model is verified on: samples, or how inputs are generated."""
    from gpuserve.cli.bench_options import ranges, shapes
    from gpuserve.cli.profiles import generated_shapes

    if not options.samples:
        said = {"shapes": generated_shapes(profiles) | shapes(options.shapes), "ranges": ranges(options.ranges)}
        return {"generate": said} if any(said.values()) else {}
    for option, texts in (("--shape", options.shapes), ("--range", options.ranges)):
        if texts:
            raise SpecError.of(option, texts[0], "is about generated inputs, and --samples gives real ones", "leave one out")
    return {"inputs": str(options.samples.resolve())}


def _require_what_int8_needs(options: Options) -> None:
    """Name the options: the spec's own words are about fields of a YAML file, and there is none."""
    if options.precision == "int8" and not options.calibrate:
        fix = "add --calibrate with a folder of sample inputs"
        raise SpecError.of("--precision", options.precision, "needs the ranges of values that real inputs have", fix)
    if not options.bars:
        fix = "add for example --bar top1_agreement=0.99 (of classes) or --bar cosine=0.99"
        raise SpecError.of("--precision", options.precision, "strays from the source, and nothing says how far it may", fix)


def _name(file: Path) -> str:
    """Return a model's name from its file's: letters, digits and hyphens, after a letter."""
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")
    return (name if name[:1].isalpha() else f"model-{name}")[:MAX_LABEL].strip("-")


def _bar(text: str) -> tuple[str, float | str]:
    from gpuserve_images.verify.spec import BarsSpec

    name, _, value = text.partition("=")
    bar = name.replace("-", "_")
    if bar not in BarsSpec.model_fields:
        raise SpecError.of("--bar", text, "names no bar", suggestion(bar, BarsSpec.model_fields))
    try:
        return bar, value if value == "none" else float(value)
    except ValueError as error:
        raise SpecError.of("--bar", text, "is no bar", f"write for example --bar {bar}=0.99") from error
