"""Which programs there are, at which versions, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PULUMI_VERSION = "3.259.0"
KUBERNETES_PROVIDER_VERSION = "4.25.0"
KUBERNETES_VERSION = "1.36.3"
TRAEFIK_VERSION = "3.6.10"
CONTAINERD_VERSION = "2.4.2"
PROMETHEUS_VERSION = "3.15.0"
"""Prometheus 3.15.0, whose Go module is v0.315.0."""


@dataclass(frozen=True)
class ModuleFile:
    """A file of a Go module's zip that a build needs beside its own `main.go`.

    Attributes:
        module: The Go module's path.
        path: The file's path in it.
        name: What the file is called beside `main.go`.
        version: The value for the JSON file's top-level `version`, if it must be set.
    """

    module: str
    path: str
    name: str
    version: str | None = None


@dataclass(frozen=True)
class GoModule:
    """One folder of `embedded/modules`, and how to build it.

    Attributes:
        name: The folder's name.
        packages: The package of each program that it builds; `.` is the folder itself.
        variables: What the linker sets (`-X`), by variable.
        files: Files from module zips that the build needs.
        links: Other names of the first program, made as symbolic links beside it.
        tags: Build tags (`-tags`), by which a module leaves out what is not needed here.
        minutes: How long a cold build takes on two cores, as measured; for the progress line only.
    """

    name: str
    packages: Mapping[str, str]
    variables: Mapping[str, str]
    minutes: float
    files: tuple[ModuleFile, ...] = ()
    links: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """An official archive, and the list of SHA-256 sums that its publisher keeps beside it.

    Attributes:
        archive: The address of a `.tar.gz`, with `{system}` for Pulumi's name of this kind of machine.
        sums: The address of the published list of sums.
        folder: The folder in the archive that holds the programs.
    """

    archive: str
    sums: str
    folder: str


@dataclass(frozen=True)
class Program:
    """A program that the engine or the cluster runs.

    Attributes:
        name: The program's file name.
        module: What builds it; None where there is no such source.
        on_path: Whether one that the user already has is used.
        oldest: The oldest version of the user's own that serves, asked for with `name version`.
        release: Where its publisher offers it.
        for_tests: Whether only the tests run it.
    """

    name: str
    module: GoModule | None
    on_path: bool = False
    oldest: tuple[int, int, int] | None = None
    release: Release | None = None
    for_tests: bool = False


@dataclass(frozen=True)
class Definitions:
    """A project's custom resource definitions, in the zip of its Go module.

    Attributes:
        module: The Go module's path; its version and hash stand in `embedded/modules/crds`.
        folder: The folder in the zip that holds the YAML files.
    """

    module: str
    folder: str


_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_COMPONENT_VERSION = "k8s.io/component-base/version"
_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_PROVIDER_MAIN = "cmd/pulumi-resource-kubernetes"

KUBE = GoModule(
    "kube",
    {"kube": "."},
    {
        f"{_COMPONENT_VERSION}.gitVersion": f"v{KUBERNETES_VERSION}",
        f"{_COMPONENT_VERSION}.gitMajor": _MAJOR,
        f"{_COMPONENT_VERSION}.gitMinor": _MINOR,
    },
    minutes=7,
    links=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
)
_CONTAINERD = "github.com/containerd/containerd/v2"
CONTAINERD = GoModule(
    "containerd",
    {name: f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    {f"{_CONTAINERD}/version.Version": f"v{CONTAINERD_VERSION}"},
    minutes=2,
    tags=("no_devmapper", "no_rdt", "no_systemd", "no_tracing", "no_zfs", "urfave_cli_no_docs"),
)
COREDNS = GoModule("coredns", {"coredns": "."}, {}, minutes=1)
PAUSE = GoModule("pause", {"pause": "."}, {}, minutes=0.2)
SIMULATED_GPUS = GoModule("simulated-gpus", {"simulated-gpus": "."}, {}, minutes=0.5)
PULUMI = GoModule(
    "pulumi",
    {"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
    # Without it the Automation API and every program that asks for a minimum version refuse the engine.
    {"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": PULUMI_VERSION},
    minutes=4,
)
PULUMI_KUBERNETES = GoModule(
    "pulumi-kubernetes",
    {"pulumi-resource-kubernetes": "."},
    {f"{_PROVIDER}/pkg/version.Version": KUBERNETES_PROVIDER_VERSION},
    minutes=6,
    files=(
        ModuleFile(_PROVIDER, f"{_PROVIDER_MAIN}/schema.json", "schema.json", version=KUBERNETES_PROVIDER_VERSION),
        ModuleFile(_PROVIDER, f"{_PROVIDER_MAIN}/terraform-mapping.json", "terraform-mapping.json"),
    ),
)
TRAEFIK = GoModule(
    "traefik",
    {"traefik": "github.com/traefik/traefik/v3/cmd/traefik"},
    {"github.com/traefik/traefik/v3/pkg/version.Version": TRAEFIK_VERSION},
    minutes=4,
)
PROMETHEUS = GoModule(
    "prometheus",
    {
        "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
        "promtool": "github.com/prometheus/prometheus/cmd/promtool",
    },
    {"github.com/prometheus/common/version.Version": PROMETHEUS_VERSION},
    minutes=4,
)
PROMETHEUS_ADAPTER = GoModule(
    "prometheus-adapter",
    {"prometheus-adapter": "sigs.k8s.io/prometheus-adapter/cmd/adapter"},
    {},
    minutes=1.5,
)
COSIGN = GoModule("cosign", {"cosign": "github.com/sigstore/cosign/v3/cmd/cosign"}, {}, minutes=4)

_PULUMI_RELEASES = f"https://github.com/pulumi/pulumi/releases/download/v{PULUMI_VERSION}"
PULUMI_RELEASE = Release(
    archive=f"{_PULUMI_RELEASES}/pulumi-v{PULUMI_VERSION}-{{system}}.tar.gz",
    sums=f"{_PULUMI_RELEASES}/pulumi-{PULUMI_VERSION}-checksums.txt",
    folder="pulumi",
)

PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        Program("pulumi", PULUMI, on_path=True, oldest=(3, 259, 0), release=PULUMI_RELEASE),
        Program("pulumi-language-python", None, on_path=True, release=PULUMI_RELEASE),
        Program("pulumi-resource-kubernetes", PULUMI_KUBERNETES, on_path=True),
        Program("kube", KUBE),
        *(Program(name, KUBE) for name in KUBE.links),
        *(Program(name, CONTAINERD) for name in CONTAINERD.packages),
        Program("coredns", COREDNS),
        Program("pause", PAUSE),
        Program("simulated-gpus", SIMULATED_GPUS),
        Program("traefik", TRAEFIK),
        Program("prometheus", PROMETHEUS),
        Program("promtool", PROMETHEUS),
        Program("prometheus-adapter", PROMETHEUS_ADAPTER),
        Program("cosign", COSIGN, for_tests=True),
    )
}
"""Every program by its file name."""

DEFINITIONS: Mapping[str, Definitions] = {
    # The release that Traefik 3.6.10 is built with: see its go.mod.
    "gateway-api": Definitions("sigs.k8s.io/gateway-api", "config/crd/standard"),
    "traefik": Definitions("github.com/traefik/traefik/v3", "docs/content/reference/dynamic-configuration"),
    "cert-manager": Definitions("github.com/cert-manager/cert-manager", "deploy/crds"),
    "prometheus-operator": Definitions("github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd"),
    "keda": Definitions("github.com/kedacore/keda/v2", "config/crd/bases"),
}
"""Where each project publishes its custom resource definitions."""
