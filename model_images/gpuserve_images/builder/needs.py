"""What a build takes from its namespace: what is missing there is said before anything is sent."""

from collections.abc import Iterator, Sequence

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve_images.builder.cluster import BuildCluster, Kind
from gpuserve_images.builder.spec import BuilderSpec

_MADE_WITH_ITS_NAMESPACE = "default"


def require_needs(cluster: BuildCluster, spec: BuilderSpec, namespace: str, claims: Sequence[str]) -> None:
    """Check that a namespace has what a build takes from it, as far as the cluster lets us ask.

    Args:
        cluster: The cluster.
        spec: The builder's options.
        namespace: Namespace of the Job.
        claims: Volume claims that the model is on.

    Raises:
        SpecError: Naming all that is missing.
        JobError: When the cluster does not answer.
    """
    if cluster.lacks("Namespace", namespace):
        fix = f"create it (kubectl create namespace {namespace}), or leave `builder.namespace` out: builds then run in their pool's"
        raise SpecError.of("builder.namespace", namespace, "does not exist in the cluster", fix)
    problems = [
        Problem(field, name, f"there is no {kind} {name} in namespace {namespace}", fix)
        for field, kind, name, fix in _needs(spec, namespace, claims)
        if cluster.lacks(kind, namespace, name)
    ]
    if problems:
        raise SpecError(problems)


def _needs(spec: BuilderSpec, namespace: str, claims: Sequence[str]) -> Iterator[tuple[str, Kind, str, str]]:
    """Yield field, kind, name, and how one is made."""
    for index, secret in enumerate(spec.secrets):
        yield (
            f"builder.secrets[{index}]",
            "Secret",
            secret,
            _made(f"secret generic {secret} -n {namespace} --from-literal=NAME=..."),
        )
    if spec.registry_secret is not None:
        command = f"secret docker-registry {spec.registry_secret} -n {namespace} --docker-server=... --docker-username=..."
        yield "builder.registry_secret", "Secret", spec.registry_secret, _made(command)
    if spec.service_account != _MADE_WITH_ITS_NAMESPACE:
        account = spec.service_account
        yield "builder.service_account", "ServiceAccount", account, _made(f"serviceaccount {account} -n {namespace}")
    for claim in claims:
        yield "source.url", "PersistentVolumeClaim", claim, "create the claim there, or name another `builder.namespace`"


def _made(command: str) -> str:
    return f"create it (kubectl create {command}), or correct the name"
