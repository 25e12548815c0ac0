"""`gpuserve render` of 10, 100 and 1,000 services: time and memory of the whole command, YAML in and YAML out."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import ROOT, Report, Row, bench_platform, best, timed

SIZES = (10, 100, 1000)
RUNS = 3


def run(report: Report) -> dict[str, Any]:
    """Return seconds, MiB and objects by number of services."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        shutil.copytree(ROOT / "stacks" / "models", stacks / "models")
        measured = {str(count): _render(stacks, count, report) for count in SIZES}
    return {"sizes": measured}


def _render(stacks: Path, count: int, report: Report) -> dict[str, Any]:
    report(f"render of {count} services")
    config = {"config": {"gpuserve:platform": bench_platform(count)}}
    (stacks / "Pulumi.bench.yaml").write_text(yaml.safe_dump(config))
    output = stacks.parent / "out.yaml"
    command = [ROOT / ".venv/bin/gpuserve", "render", "-s", "bench", "--stacks", stacks, "-o", output]
    measured = best(RUNS, lambda: timed(command))
    objects = sum(line.startswith("kind:") for line in output.read_text().splitlines())
    return {"seconds": measured.seconds, "mebibytes": measured.mebibytes, "objects": objects}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    found = [
        Row(
            f"`gpuserve render`, {int(count):,} services ({size['objects']:,} objects)",
            f"{size['seconds']:.1f} s, {size['mebibytes']:.0f} MiB",
        )
        for count, size in result["sizes"].items()
    ]
    seconds = {int(count): size["seconds"] for count, size in result["sizes"].items()}
    small, middle, large = sorted(seconds)
    each = [(seconds[more] - seconds[less]) / (more - less) * 1000 for less, more in ((small, middle), (middle, large))]
    found[-1] = Row(
        found[-1].what,
        found[-1].result,
        f"each service costs {each[0]:.1f} ms from {small} to {middle}, {each[1]:.1f} ms from {middle} to {large:,}",
    )
    return found
