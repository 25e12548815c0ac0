"""What you may say about monitoring."""

import re
from hashlib import sha256
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, ValidationInfo, field_validator

from gpuserve.kubernetes.errors import suggestion
from gpuserve.kubernetes.identifiers import DnsLabel, LabelKey, LabelValue, Namespace
from gpuserve.kubernetes.spec import Spec, known_at_plan_time
from gpuserve.kubernetes.units import Duration, Percent
from gpuserve.kubernetes.values import Discovery, MetricsSource
from gpuserve.monitoring.burns import SLOWEST_BURN
from gpuserve.monitoring.runtimes import RUNTIMES
from gpuserve.monitoring.scope import Scope


def _sane_window(window: Duration) -> Duration:
    if not 4 <= window.seconds <= 300:  # noqa: PLR2004 - four scrapes of 1 s; the shortest burn window
        msg = "is not between 4s and 5m (four scrapes of one second, and the shortest window of the alert); set for example 1m"
        raise ValueError(msg)
    return window


MAX_STACK = 30
"""Characters of a stack in names: the id of its dashboard has room for 40 in Grafana, and no other name is shorter."""

StackName = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_STACK),
]
"""A stack as objects and series are told apart by."""

RateWindow = Annotated[Duration, AfterValidator(_sane_window)]
"""The window that rates are taken over."""


def stack_label(*names: str) -> str:
    """Return what the objects and series of a stack are told apart by: its name, or what is left of it in a name of the cluster."""
    whole = "-".join(names)
    label = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")
    if label == whole and len(label) <= MAX_STACK:
        return label
    told = sha256(whole.encode()).hexdigest()[:8]
    return f"{label[: MAX_STACK - 9].strip('-')}-{told}".strip("-")


class SloSpec(Spec):
    """What a service promises.

    Attributes:
        service: The service.
        availability: Share of the requests that succeed, over 30 days; default none, and then no alert.
        latency_p95: Time in which 95 % of the requests are answered, drawn beside the measured one; default none.
        shadows: Versions whose answers no client gets, because their weight is 0: the requests that they answer or fail, copies
            most of all, count for no availability. A version that is mirrored to and has a weight counts with its copies, which
            look to it like any request. Default none.
    """

    service: DnsLabel
    availability: Percent | None = None
    latency_p95: Duration | None = None
    shadows: tuple[DnsLabel, ...] = ()

    @field_validator("availability")
    @classmethod
    def _leaves_a_budget(cls, value: Percent | None) -> Percent | None:
        if value is None:
            return value
        lowest = 100 - 100 / SLOWEST_BURN
        if value.amount >= 100:  # noqa: PLR2004 - percent
            msg = "leaves no error budget, so that every single error would alert; set for example 99.9%"
            raise ValueError(msg)
        if value.amount <= lowest:
            # 0.999 was meant as a share of 1.
            meant = f"{100 * value.amount:g}%" if lowest / 100 < value.amount < 1 else "for example 99.9%"
            msg = f"is so low that its alert could never fire; write more than {lowest:.1f}%: {meant}"
            raise ValueError(msg)
        return value


class MonitoringSpec(Spec):
    """What is watched, and how it is handed to Prometheus and Grafana.

    Attributes:
        stack: Whose series and objects these are: the label ``stack`` of what is recorded per service, and the end of the objects'
            names. Each stack that shares a Prometheus has its own. Default ``main``; `MonitoringStack` takes Pulumi's stack and the
            component's name.
        sources: The pods to watch, in namespaces where no other stack has any.
        slos: Objectives, at most one per service; default none.
        discovery: ``annotations`` (default): a Prometheus that finds pods by ``prometheus.io/scrape`` and reads rules from the
            ConfigMap ``gpuserve-rules-<stack>``. ``operator``: PodMonitor and PrometheusRule for prometheus-operator.
        alerts: Alerts on the availability objectives, default on: one for budgets that burn too fast, by five failed requests
            at least; one for services without a server; one for versions without a server where others of the service have some.
        dashboards: A Grafana dashboard in a ConfigMap with the label ``grafana_dashboard: "1"``; default on.
        namespace: Where Prometheus runs; default ``monitoring``.
        window: Rate window of the series, at least four scrape intervals; default 1 m, for scrapes every 15 s.
        labels: More labels for PodMonitor and PrometheusRule, such as the ``release`` by which kube-prometheus-stack's Prometheus
            chooses them; those of gpuserve's own stay as they are. Default none.
    """

    stack: StackName = "main"
    sources: tuple[MetricsSource, ...] = ()
    slos: tuple[SloSpec, ...] = ()
    discovery: Annotated[Discovery, BeforeValidator(known_at_plan_time)] = "annotations"
    alerts: StrictBool = True
    dashboards: StrictBool = True
    namespace: Namespace = "monitoring"
    window: RateWindow = Duration("1m")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict[str, str])

    @property
    def scope(self) -> Scope:
        """Whose series the expressions read."""
        return Scope.of(self.stack, (source.namespace for source in self.sources))

    @field_validator("sources")
    @classmethod
    def _runtimes_are_known(cls, sources: tuple[MetricsSource, ...]) -> tuple[MetricsSource, ...]:
        unknown = {source.runtime for source in sources} - set(RUNTIMES)
        if unknown:
            runtime = min(unknown)
            msg = f"names runtime {runtime!r}, whose metrics nobody has mapped; {suggestion(runtime, RUNTIMES)}"
            raise ValueError(msg)
        return sources

    @field_validator("sources")
    @classmethod
    def _namespaces_are_known(cls, sources: tuple[MetricsSource, ...]) -> tuple[MetricsSource, ...]:
        for source in sources:
            known_at_plan_time(source.namespace)
        return sources

    @field_validator("slos")
    @classmethod
    def _one_per_service(cls, slos: tuple[SloSpec, ...]) -> tuple[SloSpec, ...]:
        names = [slo.service for slo in slos]
        if len(set(names)) < len(names):
            repeated = min(name for name in set(names) if names.count(name) > 1)
            msg = f"has two objectives for service {repeated!r}; keep one"
            raise ValueError(msg)
        return slos

    @field_validator("slos")
    @classmethod
    def _of_watched_services(cls, slos: tuple[SloSpec, ...], info: ValidationInfo) -> tuple[SloSpec, ...]:
        """Refuse an objective that no series is about, whose alert would never fire."""
        watched = {source.service for source in info.data.get("sources", ())}
        missing = sorted({slo.service for slo in slos} - watched)
        if missing and "sources" in info.data:
            known = f"it watches {', '.join(sorted(watched))}" if watched else "it watches none"
            msg = (
                f"has an objective for service {missing[0]!r}, of which no pods are watched ({known}); "
                "pass the `metrics_source` of its ServingStacks in `sources`"
            )
            raise ValueError(msg)
        return slos
