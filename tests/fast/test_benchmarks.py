"""The README's table of measurements is the one that `make bench` writes from its kept results."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.__main__")


def test_the_readme_shows_the_kept_results(bench, tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(bench.README.read_text())
    assert bench.BEGIN in copy.read_text()
    bench.write_table(copy, json.loads(bench.RESULTS.read_text()))
    assert copy.read_text() == bench.README.read_text(), (
        "write it anew with `make bench`, or by hand with benchmarks.write_table"
    )


def test_every_benchmark_has_results_and_lines(bench):
    results = json.loads(bench.RESULTS.read_text())
    assert set(results) == set(bench.NAMES)
    for name in bench.NAMES:
        assert importlib.import_module(f"benchmarks.{name}").rows(results[name])


def test_a_cold_build_is_of_every_module_once(bench, monkeypatch):
    up = importlib.import_module("benchmarks.up")
    built = []
    monkeypatch.setattr(up, "build", lambda module, _progress: built.append(module.name))
    up.build_tools()
    needed = {program.module.name for program in up.PROGRAMS.values() if program.module and not program.for_tests}
    assert sorted(built) == sorted(needed) != []
