"""From a command line to a build of a model, and to where it will run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuserve.cli.model_file import Options, model_of
from gpuserve.cli.option_words import BUILD
from gpuserve.kubernetes.errors import SpecError, suggestion

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


def choose(model: Path, build: str, options: Options) -> Chosen:
    """Return the build that a command line means.

    Args:
        model: A model's YAML file, or a model file or folder.
        build: Name of a build of the YAML file; empty for its only one.
        options: What is said about a model file.

    Raises:
        SpecError: When the YAML or the options are wrong.
    """
    if model.suffix.lower() not in YAML:
        if build:
            raise SpecError.of("--build", build, "names a build of a YAML file, and the model is a file", "leave it out")
        return Chosen(model_of(model, options), BUILD, model.parent)
    if options.given():
        reason = f"is said in {model.name}, and {', '.join(options.given())} on the command line too"
        raise SpecError.of("options", None, reason, "change the YAML file, or name the model file itself")
    from gpuserve_images.spec import load_model

    spec = load_model(model)
    if not build and len(spec.builds) > 1:
        raise SpecError.of("--build", None, f"is needed: {model.name} has several builds", suggestion("", spec.builds))
    return Chosen(spec, build or next(iter(spec.builds)), model.parent)


def target_of(server: str, gpu: str) -> "Target":
    """Return where an image will run.

    Args:
        server: The inference server.
        gpu: Architecture such as `sm_80`, `any`, or nothing for a CPU.

    Raises:
        SpecError: When that is something else.
    """
    from gpuserve_images.compile.spec import ARCHITECTURE
    from gpuserve_images.target import Target

    if gpu not in {"", "any"} and not ARCHITECTURE.fullmatch(gpu):
        fix = "write its compute capability without the dot, for example 'sm_80', or `any`"
        raise SpecError.of("--gpu", gpu, "is not a GPU architecture", fix)
    if not gpu:
        return Target(server=server)
    return Target("gpu", None if gpu == "any" else gpu, server)
