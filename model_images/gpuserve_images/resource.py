"""`ModelImage`: a build of a model as a Pulumi resource that knows at preview whether there is work to do."""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.kubernetes.spec import plain
from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.spec import LOCAL, BuilderSpec
from gpuserve_images.errors import ImageError, RegistryError
from gpuserve_images.pipeline.key import content_key, image_reference
from gpuserve_images.resource_arguments import Arguments, Props
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import CPU, Target

if TYPE_CHECKING:
    from gpuserve_images.pipeline.report import BuildReport


class ModelImage(pulumi.ComponentResource):
    """One build of one model, verified and in a registry.

    Its tag is a hash of everything that goes into it, so `pulumi preview` shows a change exactly when there is something to build.
    Deleting the resource leaves the image where it is: the registry is the cache of the next `pulumi up`.

    Attributes:
        reference: Address by digest, for a container's `image`.
        tag: Address by content tag; known at plan time.
        key: Content key; known at plan time.
        signature: The model's inputs and outputs, as JSON; `null` for a model that its server reads by itself.
        parity: Its differences from the source model, as JSON; `null` for a source model that is served as it is.
        quantisation: `none`, `static` or `dynamic`.
        capacity: Requests per second that one replica was measured to answer within the model's SLO, as last attached to the
            image; None when it was not measured or nothing keeps the SLO. A later measurement (`gpuserve bench --attach`) is
            taken over by `pulumi refresh`.
    """

    reference: pulumi.Output[str]
    signature: pulumi.Output[str]
    parity: pulumi.Output[str]
    quantisation: pulumi.Output[str]
    capacity: pulumi.Output[float | None]
    tag: str
    key: str

    def __init__(  # noqa: PLR0913 - one keyword per input of the resource
        self,
        name: str,
        model: ModelSpec | Mapping[str, Any],
        *,
        build: str,
        folder: Path,
        registry: str,
        target: Target = CPU,
        base: str = "",
        builder: BuilderSpec | Mapping[str, Any] = LOCAL,
        placement: Placement | None = None,
        measured: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare a build.

        Args:
            name: Name of the resource.
            model: The model, as a spec or as the content of its YAML file.
            build: Name of one of its builds.
            folder: Folder of the model's YAML file, which paths in it are relative to.
            registry: Registry and path prefix, such as `localhost:5000/models`.
            target: Where the image will run. Default: Triton on a CPU.
            base: Base image: a recipe beside this package or an image reference. Default: the target's.
            builder: Where it is built: `{"kind": "local"}` (default), or `{"kind": "job", ...}` for a Job in the cluster.
            placement: Where a Job's pod may run: a `GpuNodePool`'s `placement`; required by builder `job`.
            measured: Refuse an image without a measured capacity, which an autoscaler is to aim at: in the preview where that can be
                known, else before anything that waits for the image is touched. Default: no.
            opts: Options of the resource.

        Raises:
            pulumi.RunError: When the model, its samples, the build's name or the builder are wrong; shown without a traceback.
        """
        try:
            spec = ModelSpec.parse(model)
            where = _builder(builder, placement)
            key = content_key(spec, build, folder=folder, target=target, base=base)
        except (SpecError, ImageError) as error:
            raise pulumi.RunError(str(error)) from error
        inputs: Props = {
            "model": plain_inputs(spec),
            "build": build,
            "folder": str(folder.resolve()),
            "registry": registry,
            "target": plain_inputs(asdict(target)),
            "base": base,
            "key": key,
        }
        if where.kind == "job" and placement is not None:
            inputs |= {"builder": plain_inputs(where), "placement": plain_inputs(placement)}
        if measured:
            inputs["measured"] = True
        super().__init__("gpuserve:index:ModelImage", name, inputs, opts)
        # After the base class, which makes an Output of every input's name.
        self.key = key
        self.tag = image_reference(spec, key, registry)
        # The build's log is shown below this resource. Its name alone: an Output of the parent would be a dependency on it, a circle.
        log = {"log_urn": pulumi.Output.from_input(self.urn.future())} if where.kind == "job" else {}
        image = _Image(ImageProvider(), f"{name}-build", inputs | log, pulumi.ResourceOptions(parent=self))
        self.reference = image.reference
        self.signature = image.signature
        self.parity = image.parity
        self.quantisation = image.quantisation
        self.capacity = image.capacity
        self.register_outputs(
            {
                "reference": self.reference,
                "tag": self.tag,
                "key": self.key,
                "signature": self.signature,
                "parity": self.parity,
                "quantisation": self.quantisation,
                "capacity": self.capacity,
            }
        )


class _Image(Resource, module="gpuserve", name="Image"):
    """The child that the engine asks for differences, and lets build."""

    reference: pulumi.Output[str]
    signature: pulumi.Output[str]
    parity: pulumi.Output[str]
    quantisation: pulumi.Output[str]
    capacity: pulumi.Output[float | None]

    def __init__(self, provider: "ImageProvider", name: str, inputs: Props, opts: pulumi.ResourceOptions) -> None:
        outputs = dict.fromkeys(("reference", "signature", "parity", "quantisation", "capacity"))
        super().__init__(provider, name, {**inputs, **outputs}, opts)


class ImageProvider(ResourceProvider):
    """Builds images for the engine; it holds no state, so its serialised form never differs."""

    serialize_as_secret_always = False

    def check(self, _olds: Props, news: Props) -> CheckResult:
        """Refuse what would fail in `create`, while nothing has been changed yet: this runs in a preview too.

        The program has read and checked the model's files to tell the key a moment ago. They are not read a second time to ask
        about an image, only to build one.
        """
        try:
            arguments = Arguments(news)
            if arguments.expected_key != _olds.get("key"):
                found = arguments.found()
                if found is None and (problem := arguments.builder_problem()):
                    return CheckResult(news, [CheckFailure("build", problem)])
                if unmeasured := arguments.capacity_problem(found):
                    return CheckResult(news, [CheckFailure("measured", str(unmeasured))])
        except RegistryError as error:
            return CheckResult(news, [CheckFailure("registry", str(error))])
        except (SpecError, ImageError) as error:
            return CheckResult(news, [CheckFailure("model", str(error))])
        return CheckResult(news, [])

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Say that there is work exactly when the content or its place differ: paths on this machine do not matter.

        Where an autoscaler aims at the capacity, another promised latency makes another capacity of the same image.
        """
        changed = any(_olds.get(name) != _news.get(name) for name in ("key", "registry"))
        changed = changed or bool(_news.get("measured") and _latency(_olds) != _latency(_news))
        return DiffResult(changes=changed, replaces=[], stables=[], delete_before_replace=False)

    def create(self, props: Props) -> CreateResult:
        """Build the image, or find it in the registry."""
        with _readable_errors():
            report, outputs = _made(props)
        return CreateResult(report.tag, outputs)

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Build the image of the new content; the old one stays in the registry."""
        with _readable_errors():
            _, outputs = _made(_news)
        return UpdateResult(outputs)

    def read(self, id_: str, props: Props) -> ReadResult:
        """Look the image up; an empty id tells the engine that it is gone, so that the next `up` makes it again."""
        with _readable_errors():
            arguments = Arguments(props)
            found = arguments.refreshed()
            outputs = {} if found is None else _outputs(props, found, arguments.capacity(found))
        return ReadResult("" if found is None else id_, outputs)

    def delete(self, _id: str, _props: Props) -> None:
        """Leave the image: tags never mean two things, and the registry is the cache of the next build."""


def _builder(builder: BuilderSpec | Mapping[str, Any], placement: Placement | None) -> BuilderSpec:
    where = BuilderSpec.parse(builder)
    if where.kind == "job" and placement is None:
        fix = "pass placement=pool.placement of the GpuNodePool that builds"
        raise SpecError([Problem("placement", None, "is required by builder `job`", fix)])
    return where


def plain_inputs(value: object) -> Any:
    """Return plain data without the fields that say nothing: the engine drops nulls, and would then see a difference."""
    data = plain(value)
    if isinstance(data, dict):
        return {name: plain_inputs(item) for name, item in data.items() if item is not None}
    return [plain_inputs(item) for item in data] if isinstance(data, list) else data


def _latency(props: Props) -> object:
    return ((props.get("model") or {}).get("slo") or {}).get("latency_p95")


def _made(props: Props) -> "tuple[BuildReport, Props]":
    arguments = Arguments(props)
    report = arguments.build()
    return report, _outputs(props, report, arguments.capacity(report))


def _outputs(props: Props, report: "BuildReport", capacity: float | None) -> Props:
    inputs = {name: value for name, value in props.items() if not name.startswith("__")}
    summary = report.summary
    return {
        **inputs,
        "reference": report.reference,
        "signature": summary.signature.model_dump_json() if summary.signature else "null",
        "parity": summary.parity.model_dump_json() if summary.parity else "null",
        "quantisation": summary.quantisation,
        "capacity": capacity,
    }


@contextmanager
def _readable_errors() -> Generator[None]:
    """Show users the message alone: the dynamic provider's host sends a formatted traceback, whose frames are no use to them.

    `GPUSERVE_DEBUG=1` shows them. The limit is the process's own, so it stays: requests are served by several threads.
    """
    try:
        yield
    except (SpecError, ImageError) as error:
        if os.environ.get("GPUSERVE_DEBUG"):
            raise
        sys.tracebacklimit = 0
        raise error.with_traceback(None) from None
