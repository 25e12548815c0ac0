"""`make up` with everything cached and the cluster down, to the first prediction; and once more with nothing to do."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Report, Row, timed
from gpuserve_embedded.tools import PROGRAMS
from gpuserve_embedded.tools.build import build

SECONDS_PER_MINUTE = 60


def run(report: Report, *, cold: bool = False) -> dict[str, Any]:
    """Return the seconds of a warm and of a second `up`; with ``cold``, of building every tool from its Go module too.

    The cluster that `make up` starts is stopped first, and again at the end.
    """
    result: dict[str, Any] = {}
    if cold:
        result["cold_tools"] = _cold(report)
    report("make down, to begin without a cluster")
    _embedded("down")
    try:
        for name in ("warm", "second"):
            report(f"make up: {name}")
            run_ = _embedded("up", "--json")
            steps = json.loads(run_.output[run_.output.index("{\n") :])["seconds"]
            after = sum(seconds for step, seconds in steps.items() if step.startswith("Ready:"))
            result[name] = {"seconds": run_.seconds, "first_prediction_seconds": run_.seconds - after, "steps": steps}
    finally:
        _embedded("down")
    return result


def _embedded(*arguments: str, variables: dict[str, str] | None = None) -> Any:
    return timed([sys.executable, "-m", "gpuserve_embedded", *arguments], variables)


def _cold(report: Report) -> dict[str, Any]:
    """Build every tool into an empty cache, with an empty compiler cache and an empty module cache."""
    with tempfile.TemporaryDirectory() as folder:
        empty = {
            "XDG_CACHE_HOME": folder,
            "GOCACHE": str(Path(folder) / "go-build"),
            "GOMODCACHE": str(Path(folder) / "go-mod"),
        }
        # Go makes its module cache read-only, which no folder can be removed from.
        empty["GOFLAGS"] = "-modcacherw"
        report("every tool from its Go module, nothing cached: about half an hour on two cores")
        command = [sys.executable, "-c", "from benchmarks.up import build_tools; build_tools()"]
        return {"seconds": timed(command, empty).seconds}


def build_tools() -> None:
    """Build what `make up` builds where it finds no official Pulumi: each Go module once."""
    modules = {program.module.name: program.module for program in PROGRAMS.values() if program.module and not program.for_tests}
    for module in modules.values():
        build(module, print)


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    warm, second = result["warm"], result["second"]
    found = [
        Row(
            "`make up`, tools and images cached, cluster down, to the first prediction",
            f"{warm['first_prediction_seconds']:.1f} s",
            f"{warm['seconds']:.1f} s until every part is ready",
        ),
        Row("second `make up`, nothing to change", f"{second['seconds']:.1f} s"),
    ]
    if "cold_tools" in result:
        minutes = result["cold_tools"]["seconds"] / SECONDS_PER_MINUTE
        found.append(
            Row("building every tool from its Go module, nothing cached", f"{minutes:.0f} min", "only on bare machines, once")
        )
    return found
