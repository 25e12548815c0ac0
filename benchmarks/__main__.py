"""Every benchmark, or those that are named: `python -m benchmarks [NAME ...] [--json] [--cold]`."""

import argparse
import importlib
import inspect
import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Row

NAMES = ("up", "render", "preview", "bake", "engines", "throughput", "server")
RESULTS = ROOT / "benchmarks" / "results.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def main() -> None:
    """Run the benchmarks, keep their results, and write the README's table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"which ({', '.join(NAMES)}); default all")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--cold", action="store_true", help="measure the build of the tools from nothing too (half an hour)")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.names or NAMES:
        results[name] = _run(name, results.get(name, {}), cold=options.cold)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_table(README, results)
    print(json.dumps(results, indent=2) if options.json else table(results))


def _run(name: str, before: dict[str, Any], *, cold: bool) -> dict[str, Any]:
    module = importlib.import_module(f"benchmarks.{name}")
    takes_cold = "cold" in inspect.signature(module.run).parameters
    result = module.run(_report, cold=cold) if takes_cold else module.run(_report)
    # What takes half an hour is measured when asked for, and kept.
    kept = {"cold_tools": before["cold_tools"]} if "cold_tools" in before else {}
    return {**kept, **result, "measured": datetime.now(UTC).date().isoformat(), "machine": _machine()}


def _report(line: str) -> None:
    print(f"  {line.strip()}", file=sys.stderr, flush=True)


def _machine() -> str:
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = f" ({model[1].strip()})" if model else ""
    return f"{os.cpu_count()} cores{processor}, {memory:.0f} GiB, Python {platform.python_version()}"


def table(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| what | measured | beside |", "|---|---|---|"]
    days: dict[str, set[str]] = {}
    for name in NAMES:
        if name in results:
            rows: list[Row] = importlib.import_module(f"benchmarks.{name}").rows(results[name])
            lines += [f"| {row.what} | {row.result} | {row.beside} |" for row in rows]
            days.setdefault(results[name]["machine"], set()).add(results[name]["measured"])
    where = "; ".join(f"{machine}, {' and '.join(sorted(measured))}" for machine, measured in days.items())
    return "\n".join([*lines, "", f"Measured with `python -m benchmarks NAME`, one benchmark at a time, on {where}."])


def write_table(readme: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the two marks in the README."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        _report(f"{readme.name}: not written: it has no lines {BEGIN} and {END}")
        return
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    readme.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{tail}")


if __name__ == "__main__":
    main()
