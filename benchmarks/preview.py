"""`pulumi preview` of 10, 100 and 300 services through `Platform` and through a hand-written program with the same objects.

Every program asks about the same model image (but for one, of a short preview, that writes its address down), uses a Kubernetes provider
with the same settings, and the same cluster, which holds none of the objects.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.measure import ROOT, Report, Row, Run, bench_platform, timed
from gpuserve.cli.stack import open_stack
from gpuserve_embedded import cluster
from gpuserve_embedded.run import environment
from gpuserve_embedded.tools import prepare_pulumi

SIZES = (10, 100, 300)
RUNS = {10: 11, 100: 3}
"""Of short previews the median of several runs counts, in which the programs take turns: other work on the machine disturbs them by more than
what the programs differ in."""

STACK = "bench"
TOGETHER = "await_outputs_together()\n"
IN_PASSING = "log_debug_in_passing()\n"
OURS = "from gpuserve.kubernetes.engine import await_outputs_together, log_debug_in_passing\n" + TOGETHER + IN_PASSING
NO_IMAGE = "hand-written, image written down"
PROGRAMS: tuple[str, ...] = (
    "platform",
    "platform, outputs awaited one by one",
    "platform, debug messages waited for",
    "hand-written",
    "hand-written, with our lines for both",
)

IMAGE = """from gpuserve_images.resource import ModelImage

#OURS#
models = Path("stacks/models")
model = yaml.safe_load((models / "filetype.yaml").read_text())
image = ModelImage("filetype-fp32-cpu", model, build="fp32", folder=models, registry="localhost:5000/models").reference
"""
WRITTEN_DOWN = f"""
image = "localhost:5000/models/filetype@sha256:{64 * "0"}"
"""

HAND_WRITTEN = """
import json
import re
from pathlib import Path
import pulumi
import pulumi_kubernetes as k8s
import yaml
#IMAGE#
KINDS = {
    "Namespace": k8s.core.v1.Namespace,
    "ResourceQuota": k8s.core.v1.ResourceQuota,
    "ServiceAccount": k8s.core.v1.ServiceAccount,
    "ConfigMap": k8s.core.v1.ConfigMap,
    "Service": k8s.core.v1.Service,
    "Deployment": k8s.apps.v1.Deployment,
    "NetworkPolicy": k8s.networking.v1.NetworkPolicy,
    "PodDisruptionBudget": k8s.policy.v1.PodDisruptionBudget,
    "HorizontalPodAutoscaler": k8s.autoscaling.v2.HorizontalPodAutoscaler,
}
cluster = k8s.Provider("cluster", kube_client_settings={"qps": 200, "burst": 400})
opts = pulumi.ResourceOptions(provider=cluster)
namespaces = {}
for thing in json.load(open("objects.json")):
    kind, metadata, version = thing.pop("kind"), thing.pop("metadata"), thing.pop("apiVersion")
    namespace = namespaces.get(metadata.get("namespace"))
    after = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[namespace])) if namespace else opts
    if kind == "Deployment":
        thing["spec"]["template"]["spec"]["containers"][0]["image"] = image
    name = f"{metadata.get('namespace')}-{metadata['name']}-{kind}"
    if kind in KINDS:
        arguments = {re.sub("([A-Z])", r"_\\1", key).lower(): value for key, value in thing.items()}
        made = KINDS[kind](name, metadata=metadata, opts=after, **arguments)
    else:
        made = k8s.apiextensions.CustomResource(name, api_version=version, kind=kind, metadata=metadata, spec=thing["spec"], opts=after)
    if kind == "Namespace":
        namespaces[metadata["name"]] = made
"""


def run(report: Report) -> dict[str, Any]:
    """Return the seconds of each program by number of services, and ratios of one run."""
    # What `up` does first: this may be the first thing that anybody runs in the checkout.
    own = ROOT / ".gpuserve"
    own.mkdir(exist_ok=True)
    prepare_pulumi(own / "bin", Path(sys.executable), report)
    with _a_cluster(report), tempfile.TemporaryDirectory() as folder:
        measured = {str(count): _previews(Path(folder), count, report) for count in SIZES}
    return {
        "sizes": measured,
        "ratio": {count: size["hand-written"] / size["platform"] for count, size in measured.items()},
    }


@contextmanager
def _a_cluster(report: Report) -> Generator[None]:
    """Use the cluster that is given or runs; else start the embedded one and stop it at the end."""
    if environment.is_external() or cluster.status().ready:
        yield
        return
    report("starting the embedded cluster")
    cluster.start(report)
    try:
        yield
    finally:
        cluster.stop()


def _previews(folder: Path, count: int, report: Report) -> dict[str, Any]:
    checkout = folder / str(count)
    _prepare(checkout, count)
    manifests = list(open_stack(STACK, checkout / "stacks").manifests())
    (checkout / "objects.json").write_text(json.dumps(manifests))
    state = checkout / "state"
    state.mkdir()
    variables = {**os.environ, **environment.variables(ROOT), "PULUMI_BACKEND_URL": f"file://{state}"}
    variables.setdefault("PULUMI_CONFIG_PASSPHRASE", "")
    timed(["pulumi", "--non-interactive", "stack", "init", STACK], variables, checkout)
    preview = ["pulumi", "--non-interactive", "preview", "-s", STACK]
    measured: dict[str, list[Run]] = {}
    turns = RUNS.get(count, 1)
    programs = _programs(short=count == min(SIZES))
    # The turn before those that count reads everything from disk, else the first program pays for the others.
    for turn in range(0 if count == min(SIZES) else 1, turns + 1):
        # Each second turn the other way round: none always comes first.
        for program in list(programs)[:: 1 if turn % 2 else -1]:
            report(f"preview of {count} services ({len(manifests)} objects), run {turn} of {turns}: {program}")
            (checkout / "__main__.py").write_text(programs[program])
            run = timed(preview, variables, checkout)
            if turn:
                measured.setdefault(program, []).append(run)
    cpu = {program: median(run.cpu_seconds for run in runs) for program, runs in measured.items()}
    seconds = {program: median(run.seconds for run in runs) for program, runs in measured.items()}
    return {"objects": len(manifests), "cpu_seconds": cpu, **seconds}


def _prepare(checkout: Path, count: int) -> None:
    shutil.copytree(ROOT / "stacks" / "models", checkout / "stacks" / "models")
    shutil.copy(ROOT / "Pulumi.yaml", checkout)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    config = {"config": {"gpuserve:platform": bench_platform(count)}}
    (checkout / "stacks" / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump(config))


def _programs(*, short: bool) -> dict[str, str]:
    """Return the text of each program; those that differ in one line differ in nothing else.

    Args:
        short: Whether the preview is a short one, of which what an image costs is a part worth showing.
    """
    platform = (ROOT / "__main__.py").read_text()
    for line in (TOGETHER, IN_PASSING):
        if line not in platform:
            raise RuntimeError(f"__main__.py has no line {line!r} to leave out")
    by_hand = HAND_WRITTEN.replace("#IMAGE#", IMAGE)
    texts = (
        platform,
        platform.replace(TOGETHER, ""),
        platform.replace(IN_PASSING, ""),
        by_hand.replace("#OURS#", ""),
        by_hand.replace("#OURS#", OURS),
    )
    programs: dict[str, str] = dict(zip(PROGRAMS, texts, strict=True))
    return programs | {NO_IMAGE: HAND_WRITTEN.replace("#IMAGE#", WRITTEN_DOWN)} if short else programs


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    found: list[Row] = []
    for count, size in result["sizes"].items():
        beside = f"hand-written program: {size['hand-written']:.1f} s ({result['ratio'][count]:.2f} times as long)"
        if NO_IMAGE in size:
            beside += f"; with the image's address written down instead of asked for: {size[NO_IMAGE]:.1f} s"
        what = f"`pulumi preview` through `Platform`, {count} services ({size['objects']:,} objects)"
        found.append(Row(what, f"{size['platform']:.1f} s", beside))
    each = {program: _milliseconds_per_service(result["sizes"], program) for program in PROGRAMS}
    less, more = sorted(int(count) for count in result["sizes"])[-2:]
    others = "; ".join(f"{program}: {cost:.0f} ms" for program, cost in list(each.items())[1:])
    found.append(Row(f"each service of a preview, from {less} to {more}", f"{each['platform']:.0f} ms", others))
    return found


def _milliseconds_per_service(sizes: dict[str, Any], program: str) -> float:
    """Return what a service more costs between the two largest sizes: the start of programs does not blur it."""
    less, more = sorted(sizes, key=int)[-2:]
    return (sizes[more][program] - sizes[less][program]) / (int(more) - int(less)) * 1000
