"""The Grafana dashboard, as code: what its panels ask stands here as data, so that tests can ask it too."""

import json
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import TYPE_CHECKING

from gpuserve.monitoring.burns import BURNS
from gpuserve.monitoring.scope import Scope
from gpuserve.monitoring.series import BATCH, ERRORS, LATENCY, QUEUE, RAW_SERVICE, RAW_VERSION, REQUESTS
from gpuserve.monitoring.slo import BUDGET, EACH, FEWEST_FAILURES, LATENCY_OBJECTIVE, burn_rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import timeseries
    from grafana_foundation_sdk.builders.dashboard import QueryVariable
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

_SERVICE = 'service=~"$service"'
_VERSION = 'version=~"$version"'
_EACH = "{{service}} {{version}}"


@dataclass(frozen=True)
class Query:
    """One line, or set of lines, of a panel."""

    expression: str
    legend: str


@dataclass(frozen=True)
class PanelSpec:
    """One panel.

    Attributes:
        title: Its title.
        unit: Grafana's unit id.
        description: What a reader should know of it.
        queries: What it draws.
    """

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]


def panels(scope: Scope, *, availability: bool, latency: bool) -> list[PanelSpec]:
    """Return the dashboard's panels.

    Args:
        scope: Whose series it draws.
        availability: Whether any service has an availability objective, so that there is a burn rate.
        latency: Whether any service has a latency objective.
    """
    chosen, promised = scope.pods(_SERVICE, _VERSION), scope.services(_SERVICE)
    pods = scope.pods(f'{RAW_SERVICE}=~"$service"', f'{RAW_VERSION}=~"$version"')
    objective = (Query(f"max by (service) ({LATENCY_OBJECTIVE}{promised})", "{{service}} objective of p95"),)
    found = [
        _per_version("Requests", "reqps", "Completed requests, mirrored ones included.", "sum", f"{REQUESTS}{chosen}"),
        _per_version("Errors", "reqps", "Requests that failed through no fault of the client.", "sum", f"{ERRORS}{chosen}"),
        PanelSpec(
            "Latency",
            "s",
            "Time in the server, not counting the network. The worst pod of each version: quantiles cannot be averaged.",
            (
                Query(f"max by (service, version, quantile) ({LATENCY}{chosen})", f"{_EACH} p{{{{quantile}}}}"),
                *(objective if latency else ()),
            ),
        ),
        _per_version(
            "Queue", "s", "Average wait for a free model instance; the autoscaler follows it.", "avg", f"{QUEUE}{chosen}"
        ),
        _per_version("Batch size", "short", "Inferences per execution.", "avg", f"{BATCH}{chosen}"),
        PanelSpec(
            "Replicas",
            "short",
            "Pods whose metrics Prometheus can read.",
            (
                Query(
                    f"sum by ({RAW_SERVICE}, {RAW_VERSION}) (up{pods})",
                    f"{{{{{RAW_SERVICE}}}}} {{{{{RAW_VERSION}}}}}",
                ),
            ),
        ),
    ]
    if availability:
        lines = tuple(
            Query(f"{burn_rate(window)}{promised}", f"{{{{service}}}} over {window}") for window in ("5m", "1h", "6h")
        )
        limits = " or ".join(f"{burn.rate:g} for {burn.long}" for burn in BURNS)
        about = (
            f"1 spends the 30-day error budget in 30 days; over {limits}, and with {FEWEST_FAILURES} failed requests in that time, "
            "somebody is called."
        )
        found.append(PanelSpec("Error budget burn rate", "short", about, lines))
        left = f"1 - {burn_rate('6h')}{promised} * on ({EACH}) {BUDGET}{promised}"
        about = "Share of the requests of the last six hours that succeeded."
        found.append(PanelSpec("Availability", "percentunit", about, (Query(left, "{{service}}"),)))
    return found


def expressions(scope: Scope, *, availability: bool, latency: bool) -> list[str]:
    """Return every panel's PromQL with the variables as "All" fills them in."""
    found = [query.expression for panel in panels(scope, availability=availability, latency=latency) for query in panel.queries]
    return [expression.replace("$service", ".+").replace("$version", ".+") for expression in found]


@lru_cache
def dashboard(scope: Scope, *, availability: bool, latency: bool) -> str:
    """Return the dashboard as JSON, with variables for data source, service and version."""
    from grafana_foundation_sdk.builders import dashboard as build
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    board = (
        build.Dashboard(f"gpuserve {scope.stack}")
        .uid(f"gpuserve-{scope.stack}")
        .tags(["gpuserve"])
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("service", f"label_values({REQUESTS}{scope.pods()}, service)"))
        .with_variable(_variable("version", f"label_values({REQUESTS}{scope.pods(_SERVICE)}, version)"))
    )
    for panel in panels(scope, availability=availability, latency=latency):
        board = board.with_panel(_panel(panel))
    plain = json.loads(JSONEncoder().encode(board.build()))
    return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def _per_version(title: str, unit: str, about: str, aggregate: str, series: str) -> PanelSpec:
    query = Query(f"{aggregate} by (service, version) ({series})", _EACH)
    return PanelSpec(title, unit, about, (query,))


def _variable(name: str, query: str) -> "QueryVariable":
    from grafana_foundation_sdk.builders.dashboard import QueryVariable
    from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh

    everything = VariableOption(text="All", value="$__all", selected=True)
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .query(query)
        .datasource(_source())
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(everything)
    )


def _panel(panel: PanelSpec) -> "timeseries.Panel":
    from grafana_foundation_sdk.builders import common, prometheus, timeseries
    from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement

    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    drawn = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .height(8)
        .span(12)
        .datasource(_source())
        .legend(legend)
    )
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expression).legend_format(query.legend)
        drawn = drawn.with_target(target)
    return drawn


def _source() -> "DataSourceRef":
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

    return DataSourceRef(type_val="prometheus", uid="$datasource")
