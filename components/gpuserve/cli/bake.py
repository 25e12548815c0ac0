"""`gpuserve bake`: a model, or plain files, as an image in a registry, without a container daemon or a cluster."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuserve.cli.building import YAML, Chosen, choose, target_of
from gpuserve.cli.model_file import Options
from gpuserve.cli.options import JsonOption
from gpuserve.cli.output import notice, to_json
from gpuserve.cli.placing import mode, placed
from gpuserve.cli.progress import progress
from gpuserve.kubernetes.errors import SpecError

if TYPE_CHECKING:
    from gpuserve.cli.progress import Tell

_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
EXAMPLE = "gpuserve bake --image localhost:5000/models/mine:1 --base debian:12 model.onnx:/models/mine/1/model.onnx"


def bake(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    what: Annotated[
        list[str],
        typer.Argument(
            help="A model's YAML file; or files and folders, each with its place in the image.", metavar="MODEL|PATH:PLACE..."
        ),
    ],
    registry: Annotated[str, typer.Option(help="Of a model: registry and path prefix.", metavar="ADDRESS")] = "",
    build: Annotated[str, typer.Option(help="Of a model: which build; default its only one.", metavar="NAME")] = "",
    server: Annotated[str, typer.Option(help="Of a model: the server to lay it out for.", metavar="NAME")] = "triton",
    gpu: Annotated[
        str, typer.Option(help="Of a model: GPU it will run on, such as sm_80, or `any`; default a CPU.", metavar="ARCH")
    ] = "",
    image: Annotated[str, typer.Option(help="Of files: the image to make.", metavar="REFERENCE")] = "",
    base: Annotated[
        str,
        typer.Option(
            help="Image to build on, or `scratch`; default a model's own, and `scratch` for files.", metavar="REFERENCE"
        ),
    ] = "",
    tag: Annotated[list[str] | None, typer.Option(help="One more tag for the image; may be repeated.", metavar="TAG")] = None,
    sign: Annotated[
        Path | None,
        typer.Option(help="Sign with this private key (cosign's or OpenSSL's).", metavar="FILE", exists=True, dir_okay=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build, verify and push a model's image; or push files as an image. Nothing is done that the registry has already."""
    one_model = len(what) == 1 and _is_model(what[0])
    if one_model and image:
        raise SpecError.of(
            "--image", image, "names the image of files; a model's image has its content key as tag", "use --registry and --tag"
        )
    if one_model and not registry:
        raise SpecError.of("--registry", None, "is needed", "write for example --registry localhost:5000/models")
    if one_model:
        from gpuserve_images.pipeline.key import require_registry

        require_registry(registry, "--registry")
    if not one_model and not image:
        raise SpecError.of("--image", None, "is needed for files", f"write for example {EXAMPLE}")
    if not one_model and (registry or build or gpu):
        raise SpecError.of(
            "options",
            None,
            "of a model, and the arguments are files",
            "name a YAML file, or leave --registry, --build and --gpu out",
        )
    finish = _Finish(tag or (), sign)
    with progress() as tell:
        if one_model:
            result = _model(choose(Path(what[0]), build, Options()), registry, base, (server, gpu), tell)
        else:
            result = _files(what, image, base, tell)
        finish(result)
    if as_json:
        typer.echo(to_json(result))
        return
    typer.echo(result["reference"])
    notice(_summary(result))


def _is_model(text: str) -> bool:
    """Tell a model's YAML file from a YAML file with its place in the image."""
    return Path(text).suffix.lower() in YAML and not text.partition(":")[2].startswith("/")


def _model(chosen: Chosen, registry: str, base: str, target: tuple[str, str], tell: "Tell") -> dict[str, Any]:
    from gpuserve_images.pipeline.build import build

    report = build(
        chosen.model, chosen.build, folder=chosen.folder, registry=registry, base=base, target=target_of(*target), progress=tell
    )
    for note in report.notes:
        notice(note)
    return report.model_dump(mode="json")


def _files(what: Sequence[str], image: str, base: str, tell: "Tell") -> dict[str, Any]:
    """Bake files; whoever finishes the image gives it its tag."""
    from gpuserve_images.oci import File, Layer, bake
    from gpuserve_images.oci.reference import Reference

    named = Reference.parse(image)
    if named.digest:
        reason = "has a digest, which follows from the files"
        raise SpecError.of("--image", image, reason, f"write {image.partition('@')[0]}")
    places = placed(what)
    layers = [Layer({place: File(path, mode(path))}, comment=place) for place, path in places.items()]
    on = None if base in {"", "scratch"} else base
    target = Reference(named.registry, named.repository)
    made = bake(str(target), layers, base=on, progress=lambda done, total: tell("push", done, total))
    return {
        "reference": made.reference,
        "tag": image,
        "digest": made.digest,
        "uploaded_bytes": made.uploaded_bytes,
        "pushed": made.uploaded_bytes > 0,
        "files": {place: path.stat().st_size for place, path in places.items()},
    }


class _Finish:
    """Signs an image and gives it its tags; what is wrong with the key or a tag is said before anything is built."""

    def __init__(self, tags: Sequence[str], key: Path | None) -> None:
        self._tags = tuple(tags)
        for tag in tags:
            if not _TAG.fullmatch(tag):
                raise SpecError.of("--tag", tag, "is no tag", "use letters, digits and _ . -, at most 128, such as --tag 1.4")
        self._key = None
        if key is not None:
            from gpuserve_images.oci.keys import private_key

            self._key = private_key(str(key))

    def __call__(self, result: dict[str, Any]) -> None:
        from gpuserve_images.oci import sign, tag_image

        reference: str = result["reference"]
        if self._key is not None:
            result["signature"] = sign(reference, self._key)
        # An image of files gets its tag after its signature: who finds the tag finds both. A model's has its tag already: it is signed with
        # its build where the model says by whom.
        tags = [result["tag"], *(f"{reference.partition('@')[0]}:{tag}" for tag in self._tags)]
        changed = [tag_image(reference, tag) for tag in tags]
        result["pushed"] = result["pushed"] or any(changed)
        result["tags"] = list(self._tags)


def _summary(result: dict[str, Any]) -> str:
    sent = result["uploaded_bytes"]
    if not result["pushed"]:
        return "the registry had it: nothing was done"
    ran = [run["stage"] for run in result.get("stages", []) if run["origin"] == "made"]
    return f"{sent / 1e6:.1f} MB sent" + (f"; stages run: {', '.join(ran)}" if ran else "")
