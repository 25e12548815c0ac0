"""Rules about probes."""

from collections.abc import Iterator

from gpuserve_policies.gpu import gpu_resources
from gpuserve_policies.pods import LONG_RUNNING, Container, per_container
from gpuserve_policies.rule import Context, Rule, Violation

_WITHOUT = {
    "readinessProbe": "is missing, so requests reach the server before it can answer",
    "livenessProbe": "is missing, so a server that hangs is never restarted",
    "startupProbe": "is missing beside a GPU, so a model that loads slowly is killed by its liveness probe",
}


@per_container
def _probes_present(container: Container, _context: Context) -> Iterator[Violation]:
    if container.init or container.kind not in LONG_RUNNING:
        return
    needs_startup = bool(gpu_resources(container, "limits"))
    for probe, reason in _WITHOUT.items():
        if container.body.get(probe) is None and (needs_startup or probe != "startupProbe"):
            yield Violation(f"{container.path}.{probe}", None, reason)


PROBES_PRESENT = Rule(
    name="probes",
    description=(
        "A container that runs until it is replaced has a readiness and a liveness probe, and with a GPU a startup probe: "
        "a rollout without them sends requests to servers that cannot answer."
    ),
    check=_probes_present,
    fix="add the probe on the runtime's own health endpoint, for example httpGet /v2/health/ready",
    severity="medium",
    url="https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/",
)
