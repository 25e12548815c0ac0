"""`gpuserve compile`: a model file to engines or an optimised ONNX file in a folder, without a registry or a cluster."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuserve.cli.building import YAML, Chosen, choose, target_of
from gpuserve.cli.model_file import Options
from gpuserve.cli.option_words import by_option
from gpuserve.cli.options import JsonOption
from gpuserve.cli.output import to_json
from gpuserve.cli.progress import progress
from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import ImageError

if TYPE_CHECKING:
    from gpuserve.cli.progress import Tell


def compile_model(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    model: Annotated[Path, typer.Argument(help="A model's YAML file, or a model file or folder.", metavar="MODEL")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; default NAME-BUILD.", metavar="DIR")
    ] = None,
    build: Annotated[str, typer.Option(help="Build of the YAML file; default its only one.", metavar="NAME")] = "",
    gpu: Annotated[
        str, typer.Option(help="GPU that an ONNX file is for, such as sm_80, or `any`; default a CPU.", metavar="ARCH")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the model; default the file's.", metavar="NAME")] = "",
    form: Annotated[
        str, typer.Option("--format", help="Format of the file; default by name and content.", metavar="FORMAT")
    ] = "",
    engine: Annotated[str, typer.Option(help="onnxruntime, tensorrt or tensorrt-rtx.", metavar="ENGINE")] = "",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8 or int8-dynamic.", metavar="PRECISION")] = "",
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(help="Operator or node that fp16 and INT8 leave in fp32; may be repeated.", metavar="NAME"),
    ] = None,
    arch: Annotated[list[str] | None, typer.Option(help="GPU to make an engine for; may be repeated.", metavar="ARCH")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Sample inputs to verify on; default generated ones.", metavar="DIR")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Sample inputs that INT8 ranges are measured on.", metavar="DIR")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Shapes an engine accepts, such as ids=-1x1:-1x64:-1x512, or one; may be repeated.",
            metavar="INPUT=MIN:OPT:MAX",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Sizes behind the batch axis of a generated input; default the profile's OPT.", metavar="INPUT=N,N"),
    ] = None,
    value_range: Annotated[
        list[str] | None,
        typer.Option("--range", help="Values of a generated input; default by type.", metavar="INPUT=LOW:HIGH"),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(help="Largest batch; default the profile's, else 32.", min=0, metavar="N", show_default=False)
    ] = 0,
    bar: Annotated[list[str] | None, typer.Option(help="How near to the source it must stay.", metavar="NAME=VALUE")] = None,
    force: Annotated[bool, typer.Option(help="Write into a folder that is not empty.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export, optimise, quantise or compile a model, verify it against its source, and write the result into a folder."""
    options = Options(
        name=name,
        form=form,
        engine=engine,
        precision=precision,
        keep_fp32=tuple(keep_fp32 or ()),
        architectures=tuple(arch or ()),
        samples=samples,
        calibrate=calibrate,
        max_batch=max_batch,
        bars=tuple(bar or ()),
        profiles=tuple(profile or ()),
        shapes=tuple(shape or ()),
        ranges=tuple(value_range or ()),
    )
    chosen = choose(model, build, options)
    place = output or Path(f"{chosen.model.name}-{chosen.build}")
    try:
        _require_writable(place, force=force)
    except OSError as error:
        raise _not_written(place, error.strerror or str(error)) from error
    try:
        with progress() as tell:
            result = _compile(chosen, gpu, place, tell)
    except (ImageError, SpecError) as error:
        raise (error if model.suffix.lower() in YAML else by_option(error)) from None
    if as_json:
        typer.echo(to_json(result))
    else:
        for line in _lines(result):
            typer.echo(line)


def _compile(chosen: Chosen, gpu: str, place: Path, tell: "Tell") -> dict[str, Any]:
    from gpuserve_images.pipeline.chain import plan
    from gpuserve_images.pipeline.job import Job
    from gpuserve_images.pipeline.making import make, runs
    from gpuserve_images.pipeline.runner import Runner
    from gpuserve_images.pipeline.store import cache_folder

    job = Job(chosen.model, chosen.build, chosen.folder, target_of("triton", gpu))
    if job.spec.engine == "native":
        reason = "serves the source model as it is, so there is nothing to compile"
        raise SpecError.of(f"builds.{chosen.build}.engine", "native", reason, "bake it (`gpuserve bake`)")
    chain = plan(job)
    with Runner(cache_folder(), progress=tell) as runner:
        made = make(chain, runner)
        report = made.report(chain, runner)
        stages = [run.model_dump() for run in runs(chain, runner)]
        files = made.outputs(runner)
        texts = {"report.json": report.model_dump_json(indent=2), "report.html": report.html()}
        try:
            _write(place, files, texts)
        except OSError as error:
            raise _not_written(place, error.strerror or str(error)) from error
    return {
        "output": str(place),
        "files": {path: (place / path).stat().st_size for path in sorted([*files, *texts])},
        "key": chain.key,
        "quantisation": made.summary.quantisation,
        "parity": made.summary.parity.model_dump() if made.summary.parity else None,
        "capacity": report.capacity.model_dump(exclude={"points", "notes"}) if report.capacity else None,
        "engines": {name: engine.model_dump() for name, engine in report.engines.items()},
        "ran": {name: parity.model_dump() for name, parity in report.ran.items()},
        "notes": list(report.notes),
        "missed": list(made.missed),
        "stages": stages,
    }


def _require_writable(place: Path, *, force: bool) -> None:
    """Find out before a long build that its result could not be written, as far as that shows without writing."""
    if place.exists() and not force and (not place.is_dir() or any(place.iterdir())):
        raise SpecError.of("--output", str(place), "is there already", "name another folder, or give --force")
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not there.is_dir():
        raise _not_written(place, f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _not_written(place, f"nothing may be written into {there}")


def _not_written(place: Path, why: str) -> SpecError:
    fix = "name a folder that may be written to, or one that can be made"
    return SpecError.of("--output", str(place), f"cannot be written: {why}", fix)


def _write(place: Path, files: dict[str, Path], texts: dict[str, str]) -> None:
    """Write a folder whole or not at all; into one that is there file by file, and nothing else in it is touched."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        for path, source in files.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, new / path)
        for path, text in texts.items():
            (new / path).write_text(text, encoding="utf-8")
        if not place.exists():
            new.rename(place)
            return
        for path in [*files, *texts]:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).replace(place / path)


def _lines(result: dict[str, Any]) -> list[str]:
    parity, capacity = result["parity"], result["capacity"]
    lines = [f"{result['output']}: {', '.join(result['files'])}"]
    if parity:
        lines.append(_differences(parity))
    lines += [f"engine for {name}, run on its GPU: {_differences(own)}" for name, own in result["ran"].items()]
    lines += result["notes"]
    if capacity and capacity["at_slo"]:
        lines.append(f"answers {capacity['at_slo']:.0f} samples/s here")
    ran = [stage["stage"] for stage in result["stages"] if stage["origin"] == "made"]
    lines.append(f"stages run: {', '.join(ran)}" if ran else "every stage was known: nothing was run")
    return [*result["missed"], *lines]


def _differences(parity: dict[str, Any]) -> str:
    agreement = "" if parity["top1_agreement"] is None else f", top-1 agreement {parity['top1_agreement']:.2%}"
    return f"differs from the source by at most {parity['max_abs_error']:.3g}{agreement} on {parity['samples']} inputs"
