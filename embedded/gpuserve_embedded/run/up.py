"""`make up`: from nothing to a prediction, in steps that each do nothing when nothing is to be done."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuserve.cli.stack import Stack, open_stack
from gpuserve.monitoring.manifests import dashboard_name
from gpuserve.platform.compose import image_requests
from gpuserve_embedded import cluster
from gpuserve_embedded.cluster.layout import PROMETHEUS
from gpuserve_embedded.run import environment
from gpuserve_embedded.run.orphans import end_orphans, mark
from gpuserve_embedded.run.predict import first_prediction
from gpuserve_embedded.run.pulumi import Pulumi
from gpuserve_embedded.run.ready import wait_until_ready
from gpuserve_embedded.run.steps import Steps
from gpuserve_images.bases import serving as serving_base


@dataclass(frozen=True)
class Answer:
    """What the run ended with.

    Attributes:
        stack: Name of the stack.
        services: The stack's `services` output.
        changes: The engine's summary of what it changed.
        file: The file that was sent through the gateway.
        prediction: The model's answer for it.
        prometheus: Address of the embedded Prometheus; ``None`` with a cluster of the user's own.
        dashboard: Where the Grafana dashboard lies.
        waiting: Service -> what it still waits for, of those that answer but are not ready in every part.
        seconds: Step -> how long it took.
    """

    stack: str
    services: dict[str, Any]
    changes: str
    file: Path
    prediction: str
    prometheus: str | None
    dashboard: str
    waiting: dict[str, str]
    seconds: dict[str, float]


def up(stack: str, file: Path, steps: Steps) -> Answer:
    """Bring everything up and send ``file`` to the first service.

    Raises:
        ClusterError: When a tool, the cluster or the engine fails.
        SpecError: When the stack or model files are wrong; nothing was changed then.
    """
    folder = environment.checkout()
    opened = open_stack(stack, folder / "stacks")
    if not environment.is_external():
        return _up(opened, folder, file, steps, external=False)
    with environment.own_temporary_files(folder):
        return _up(opened, folder, file, steps, external=True)


def _up(opened: Stack, folder: Path, file: Path, steps: Steps, *, external: bool) -> Answer:
    stack, declared = opened.name, opened.environment
    os.environ.update({**mark(), **({} if external else environment.unproxied())})
    with steps.step("Tools: Pulumi, provider, cluster") as progress:
        if not external:
            cluster.check(progress)
        end_orphans(progress, engines=False)  # an engine is waited for before `pulumi up`
        variables = environment.prepare(folder, stack, progress)
        if not external:
            cluster.prepare(progress)
    with steps.step("Cluster: yours" if external else "Cluster: control plane, node, gateway, Prometheus") as progress:
        if not external:
            cluster.start(progress)
            environment.keep_temporary_files()
    with steps.step("Base image: Triton with ONNX Runtime") as progress:
        for base in {serving_base.default_base(request.target) for request in image_requests(declared.platform)}:
            serving_base.ensure(base, declared.platform.registry, lambda line, _done, _total: progress(line))
    engine = Pulumi(folder, stack, variables, folder / ".gpuserve" / "pulumi.log")
    with steps.step(f"pulumi up -s {stack}") as progress:
        engine.select(progress)
        changes = engine.up(progress)
        services = engine.outputs()["services"]
    with steps.step(f"Prediction: {file.name} through the gateway") as progress:
        prediction = first_prediction(declared, services, file, progress)
    with steps.step("Ready: every part of every service") as progress:
        waiting = wait_until_ready(opened, variables.get("KUBECONFIG"), progress)
    monitoring = opened.plan.monitoring["platform"]
    return Answer(
        stack=stack,
        services=services,
        changes=changes,
        file=file,
        prediction=prediction,
        prometheus=None if external else PROMETHEUS,
        dashboard=f"ConfigMap {monitoring.namespace}/{dashboard_name(monitoring)}",
        waiting=waiting,
        seconds=steps.seconds,
    )
