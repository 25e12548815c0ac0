"""A build of one model in the cluster, from the files on this machine to an image in the registry."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gpuserve.kubernetes.cluster import AMBIENT, ClusterChoice
from gpuserve.kubernetes.values import Placement
from gpuserve_images.bases import serving as serving_base
from gpuserve_images.builder import context, running
from gpuserve_images.builder.cluster import BuildCluster, connect
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.image import ensure_image, require_tools
from gpuserve_images.builder.manifests import BuildJob
from gpuserve_images.builder.needs import require_needs
from gpuserve_images.builder.portable import require_portable
from gpuserve_images.builder.spec import BuilderSpec, require_reachable
from gpuserve_images.pipeline.build import trusted
from gpuserve_images.pipeline.chain import Chain, plan
from gpuserve_images.pipeline.company import others
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.key import image_reference
from gpuserve_images.pipeline.report import BuildReport
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target


@dataclass(frozen=True)
class ClusterBuild:
    """One build for the cluster.

    Attributes:
        model: The model.
        build: Name of one of its builds.
        folder: Folder of the model's YAML file, which its paths are relative to.
        registry: Registry and path prefix, by the name that nodes pull from, such as `localhost:5000/models`.
        base: Base image: a recipe or an image reference. Empty: the target's.
        target: Where the image will run.
        spec: The builder's options.
        placement: Where the pod may run, and what a GPU is called there.
        chosen: What the stack says about its cluster, in plain; a context that the builder names comes first. Default: nothing.
    """

    model: ModelSpec
    build: str
    folder: Path
    registry: str
    base: str
    target: Target
    spec: BuilderSpec
    placement: Placement
    chosen: ClusterChoice = AMBIENT

    def check(self, cluster: BuildCluster | None = None) -> None:
        """Refuse what cannot work, while nothing has been changed.

        Raises:
            SpecError: When the builder's image would make another image than this machine, pods cannot reach the registry, the
                kubeconfig lacks the context or cluster that is chosen, or the namespace that the builder names lacks what it takes.
            JobError: When the cluster does not answer, or does not let a build do what it does.
        """
        require_reachable(self.registry, self.spec)
        chain = self._chain()
        require_portable(chain.job)
        self._require_pieces(chain)
        there = cluster or connect(self._cluster)
        namespace = self._namespace
        # The pool's own namespace may be made by the very run that this precedes, and Secrets in it too.
        if namespace != self.placement.namespace:
            require_needs(there, self.spec, namespace, _claims(chain.job))
        there.require_rights(namespace)

    def run(
        self,
        report: Callable[[str], None],
        wanted: Callable[[], bool] = lambda: True,
        cluster: BuildCluster | None = None,
    ) -> BuildReport:
        """Build unless the registry has it.

        Args:
            report: Told each line.
            wanted: Asked again and again whether anybody still waits.
            cluster: Where. Default: the cluster that is chosen, else the one that the environment names.

        Raises:
            SpecError: When the model cannot be sent away, or the namespace lacks what the build takes from it; nothing was sent.
            SignatureError: When the registry's image is not signed by the model's signer.
            JobError: When the Job cannot start or did not end well.
            BuildRefusedError: With the build's own message.
            GpuserveError: As for a build on this machine, for what is seen before the Job starts.
        """
        chain = self._chain()
        tag = image_reference(self.model, chain.key, self.registry)
        require_portable(chain.job)
        found = trusted(tag, self.model.bake, self.folder)
        if found is not None:
            return found
        self._require_pieces(chain)
        there = cluster or connect(self._cluster)
        require_needs(there, self.spec, self._namespace, _claims(chain.job))
        progress = _Lines(report)
        # Recipes are built with buildah, which a pod without privileges cannot run: so they are made here, once.
        if chain.base:
            serving_base.ensure(str(chain.base), self.registry, progress)
        image = self.spec.image or ensure_image(self.registry, context.tools_of(chain), progress)
        job = BuildJob(
            model=self.model.name,
            build=self.build,
            key=chain.key,
            context=context.push(chain, self.registry, self.base, progress),
            image=image,
            registry=self.registry.split("/", 1)[0],
            placement=self.placement,
            spec=self.spec,
            gpus=self.spec.gpus_for(self.model.builds[self.build].engine),
            claims=_claims(chain.job),
        )
        running.run(job, there, report, wanted=wanted)
        done = trusted(tag, self.model.bake, self.folder)
        if done is None:
            reason = f"ended, but the registry has no {tag}"
            fix = "See that `builder.registry_address` is the same registry as `registry`, and that nobody deleted the Job; then run again."
            raise JobError(f"Job {job.namespace}/{job.name}", reason, fix)
        return done

    @property
    def _namespace(self) -> str:
        return self.spec.namespace or self.placement.namespace

    @property
    def _cluster(self) -> ClusterChoice:
        if self.spec.context is None:
            return self.chosen
        return replace(self.chosen, context=self.spec.context, cluster=None, context_field="builder.context")

    def _chain(self) -> Chain:
        return plan(Job(self.model, self.build, self.folder, self.target), self.base)

    def _require_pieces(self, chain: Chain) -> None:
        if self.spec.image is None:
            require_tools(context.tools_of(chain))


def _claims(job: Job) -> tuple[str, ...]:
    addresses = (one.model.source.address for one in (job, *others(job).values()))
    return tuple(sorted({address.place for address in addresses if address is not None and address.scheme == "pvc"}))


class _Lines:
    """Progress of this machine's part: each step when it begins."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._step = ""

    def __call__(self, stage: str, _done: int, _total: int) -> None:
        # An image that is made reports hundreds of lines, each with the step in front.
        step, _, made = stage.partition(":")
        if step != self._step:
            self._report(f"{step} image: made on this machine, which takes minutes and is done once" if made else step)
            self._step = step
