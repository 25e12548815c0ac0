"""The inputs of a `ModelImage`, as its provider in the engine reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.capacity import unmeasured
from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve.kubernetes.values import Placement
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.spec import BuilderSpec
from gpuserve_images.errors import SourceError
from gpuserve_images.pipeline.key import content_key, image_reference
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target

if TYPE_CHECKING:
    from gpuserve_images.builder.building import ClusterBuild
    from gpuserve_images.pipeline.report import BuildReport


class Arguments:
    """The inputs of the resource as the arguments of `build`.

    What builds, signs and measures is imported by those who do it: every preview waits until its question is asked.
    """

    def __init__(self, props: Mapping[str, Any], cluster: ClusterChoice = AMBIENT) -> None:
        """Read what `ModelImage` gave the engine, and keep what the stack says about the cluster that Jobs go to."""
        self.model = ModelSpec.parse(props["model"])
        self.name = str(props["build"])
        self.folder = Path(props["folder"])
        self.registry = str(props["registry"])
        self.base = str(props["base"])
        self.target = Target(**props["target"])
        self.expected_key = str(props["key"])
        self.props = props
        self.cluster = cluster

    def tag(self) -> str:
        """Return the address by content tag."""
        return image_reference(self.model, self.expected_key, self.registry)

    def found(self) -> "BuildReport | None":
        """Return the image in the registry, or None; its signature holds where the model names its signer's public key.

        Raises:
            SpecError: When a Job shall build it, and it cannot be sent away or be told from somebody else's afterwards.
            SignatureError: When it does not.
            SigningKeyError: When the key cannot be used.
            SourceError: When something else than gpuserve pushed that tag.
            RegistryError: When the registry is down or refuses.
        """
        bake = self.model.bake
        if "builder" in self.props:
            from gpuserve_images.builder.portable import require_portable
            from gpuserve_images.pipeline.job import Job

            require_portable(Job(self.model, self.name, self.folder, self.target))
        # Who only previews need not have the private key.
        if bake.sign is not None and bake.sign.public_key:
            from gpuserve_images.pipeline.build import trusted

            return trusted(self.tag(), bake, self.folder)
        from gpuserve_images.pipeline.published import published

        return published(self.tag())

    def refreshed(self) -> "BuildReport | None":
        """Return the image as it is in the registry now, or None; one that the state does not know already must be signed.

        Raises:
            SignatureError: When it is not signed by the model's signer.
            SigningKeyError: When that cannot be told, because the key cannot be used.
            SourceError: When something else than gpuserve pushed that tag.
            RegistryError: When the registry is down or refuses.
        """
        from gpuserve_images.pipeline.published import published

        found = published(self.tag())
        if found is not None and found.reference != self.props.get("reference"):
            from gpuserve_images.pipeline.publishing import require_signature

            require_signature(found.reference, self.model.bake, self.folder)
        return found

    def builder_problem(self) -> str | None:
        """Return why a build in the cluster could not work, as far as that can be told before anything is changed."""
        try:
            job = self._job()
            if job is not None:
                job.check()
        except (SpecError, JobError) as error:
            return str(error)
        return None

    def capacity(self, image: "BuildReport") -> float | None:
        """Return the requests per second that an image was measured to answer within the model's SLO; None where it carries no such number.

        What was attached last counts: it may be later and nearer to the truth than what the build measured.
        """
        from gpuserve_images.verify.attached import attached_capacity

        attached = attached_capacity(image.reference, self.model.slo)
        return attached.requests_at_slo if attached else None

    def capacity_problem(self, found: "BuildReport | None") -> Problem | None:
        """Return why no autoscaler can aim at the image's measured capacity; None where none shall, and where one can.

        Args:
            found: The image, or None before it is built: then only the build may tell.
        """
        if not self.props.get("measured"):
            return None
        from gpuserve_images.pipeline.chain import times

        may_be = times(self.model.builds[self.name].engine, self.target) if found is None else self.capacity(found)
        if may_be:
            return None
        return unmeasured(f"{self.model.name}, build {self.name}: scale target", found.reference if found else self.tag())

    def build(self) -> "BuildReport":
        """Build here or in a Job, or find the image in the registry.

        Raises:
            SpecError: When an autoscaler shall aim at a capacity that the image does not carry.
            SourceError: When the files are not those any more that the program saw: nothing is built.
            ImageError: When it cannot be built.
        """
        self._require_unchanged()
        report = self._built()
        problem = self.capacity_problem(report)
        if problem:
            raise SpecError([problem])
        return report

    def _require_unchanged(self) -> None:
        key = content_key(self.model, self.name, folder=self.folder, target=self.target, base=self.base)
        if key != self.expected_key:
            reason = "the model or its samples changed while this program ran"
            raise SourceError(f"{self.model.name}, build {self.name}", reason, "Run it again.")

    def _built(self) -> "BuildReport":
        job = self._job()
        if job is not None:
            from gpuserve_images.builder.engine_log import EngineLog

            log = EngineLog(str(self.props.get("log_urn", "")))
            return job.run(log.line, log.listens)
        from gpuserve_images.pipeline.build import build

        return build(self.model, self.name, folder=self.folder, registry=self.registry, base=self.base, target=self.target)

    def _job(self) -> "ClusterBuild | None":
        if "builder" not in self.props:
            return None
        from gpuserve_images.builder.building import ClusterBuild

        place: dict[str, Any] = {**self.props["placement"], "tolerations": tuple(self.props["placement"]["tolerations"])}
        return ClusterBuild(
            model=self.model,
            build=self.name,
            folder=self.folder,
            registry=self.registry,
            base=self.base,
            target=self.target,
            spec=BuilderSpec.parse(self.props["builder"]),
            placement=Placement(**place),
            chosen=self.cluster,
        )
