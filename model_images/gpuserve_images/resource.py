"""`ModelImage`: a build of a model as a Pulumi resource that knows at preview whether there is work to do."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.spec import plain
from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.spec import LOCAL, BuilderSpec, short
from gpuserve_images.errors import ImageError
from gpuserve_images.image_provider import ImageProvider, Props
from gpuserve_images.pipeline.key import content_key, image_reference
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import CPU, Target


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
        folder: Path | str,
        registry: str,
        target: Target = CPU,
        base: str = "",
        builder: BuilderSpec | Mapping[str, Any] | str = LOCAL,
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
            registry: Registry and path prefix, such as `localhost:5000/models`; no Output, for a preview asks it what is there.
            target: Where the image will run. Default: Triton on a CPU.
            base: Base image: a recipe beside this package or an image reference. Default: the target's.
            builder: Where it is built: `local` (default), or `{"kind": "job", ...}` for a Job in the cluster; `job` alone is one
                without options.
            placement: Where a Job's pod may run: a `GpuNodePool`'s `placement`; required by builder `job`.
            measured: Refuse an image without a measured capacity, which an autoscaler is to aim at: in the preview where that can be
                known, else before anything that waits for the image is touched. Default: no.
            opts: Options of the resource.

        Raises:
            pulumi.RunError: When the model, its samples, the build's name, the registry, the target or the builder are wrong; shown
                without a traceback.
        """
        try:
            spec, folder = ModelSpec.parse(model), Path(folder)
            where = _builder(builder, placement)
            key = content_key(spec, build, folder=folder, target=target, base=base)
            tag = image_reference(spec, key, registry)
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
        self.tag = tag
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

    def __init__(self, provider: ImageProvider, name: str, inputs: Props, opts: pulumi.ResourceOptions) -> None:
        outputs = dict.fromkeys(("reference", "signature", "parity", "quantisation", "capacity"))
        super().__init__(provider, name, {**inputs, **outputs}, opts)


def _builder(builder: BuilderSpec | Mapping[str, Any] | str, placement: Placement | None) -> BuilderSpec:
    where = BuilderSpec.parse(short(builder), path="builder")
    if where.kind == "job" and placement is None:
        fix = "pass placement=pool.placement of the GpuNodePool that builds"
        raise SpecError.of("placement", None, "is required by builder `job`", fix)
    return where


def plain_inputs(value: object) -> Any:
    """Return plain data without the fields that say nothing: the engine drops nulls, and would then see a difference."""
    data = plain(value)
    if isinstance(data, dict):
        return {name: plain_inputs(item) for name, item in data.items() if item is not None}
    return [plain_inputs(item) for item in data] if isinstance(data, list) else data
