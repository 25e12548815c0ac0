"""Baking a model onto a 1 GB base, beside buildah and crane; and what a rebuild sends.

All are whole commands against a registry on this machine, an empty one for each. buildah builds the equivalent Dockerfile, which is what
`docker build` and `docker push` do, without a daemon; it has the base in its store already and may use its layer cache (`--layers`).
crane (`crane append`) adds a tar to the base in the registry, which is the nearest that other tools come to ours; making the tar counts.
Ours and crane have nothing beforehand. The model is random bytes, which do not compress, as weights hardly do.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Report, Row, Run, timed

SIZES_MB = (1, 10, 100, 1000, 4000)
REBUILDS_FROM_MB = 100
"""Rebuilds of smaller models show the start of each program and nothing else: they stay out of the table."""
BASE_MB = 1000
MB = 1_000_000
AGAIN_RUNS = 5
CRANE = "v0.20.6"

_PYTHON = ROOT / ".venv/bin/python"
# The weights in one layer, the small file that people change in another: as the image pipeline lays a model out.
_BAKE = """
import json, sys
from pathlib import Path
from gpuserve_images.oci import File, Layer, bake
target, base, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
paths = ("/models/m/1/model.onnx", "/models/m/config.pbtxt")
layers = [Layer({path: File(folder / Path(path).name)}) for path in paths]
print(json.dumps(bake(target, layers, base=base).uploaded_bytes))
"""
_DOCKERFILE = "FROM {base}\nCOPY model.onnx /models/m/1/model.onnx\nCOPY config.pbtxt /models/m/config.pbtxt\n"
# After so long a file counts as finished: one that was written just now is always read again.
_SETTLING_SECONDS = 2.5


@dataclass(frozen=True)
class _Bench:
    """A registry with a base, and a folder with the model."""

    folder: Path
    data: Path
    host: str
    crane: Path | None

    @property
    def base(self) -> str:
        """Reference of the base image."""
        return f"{self.host}/base:1"

    @property
    def model(self) -> Path:
        """Folder of the model, with the Dockerfile beside it."""
        return self.folder / "model"

    @property
    def _store(self) -> list[str | Path]:
        return ["--root", self.folder / "root", "--runroot", self.folder / "run"]

    def prepare(self, tool: str) -> None:
        """Give buildah the base."""
        if tool == "buildah":
            timed(["buildah", *self._store, "pull", "--tls-verify=false", self.base])

    def clear(self, tool: str) -> None:
        """Take everything away again."""
        if tool == "buildah":
            timed(["buildah", *self._store, "rm", "--all"])

    def ours(self) -> Run:
        """Bake what is in the folder."""
        variables = {"XDG_CACHE_HOME": str(self.folder / "cache")}
        return timed([_PYTHON, "-c", _BAKE, f"{self.host}/ours:1", self.base, self.model], variables)

    def buildah(self) -> Run:
        """Build and push what is in the folder."""
        image = f"{self.host}/buildah:1"
        options = ["--layers", "--isolation", "chroot", "--format", "oci", "--tls-verify=false", "--tag", image]
        built = timed(["buildah", *self._store, "bud", *options, self.model])
        return _both(built, timed(["buildah", *self._store, "push", "--tls-verify=false", image]))

    def crane_append(self) -> Run:
        """Make a tar of what is in the folder, and append it."""
        tar = self.folder / "layer.tar"
        moved = ["--transform=s,^model.onnx,models/m/1/model.onnx,", "--transform=s,^config,models/m/config,"]
        packed = timed(["tar", "-cf", tar, "-C", self.model, "--mtime=@0", *moved, "model.onnx", "config.pbtxt"])
        command = [str(self.crane), "append", "--insecure", "--base", self.base, "-f", tar, "-t", f"{self.host}/crane:1"]
        appended = timed(command)
        tar.unlink()
        return _both(packed, appended)

    def stored(self) -> int:
        """Return the bytes that the registry holds."""
        return sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())


def _both(first: Run, second: Run) -> Run:
    return Run(first.seconds + second.seconds, max(first.mebibytes, second.mebibytes), "")


def run(report: Report, sizes: tuple[int, ...] = SIZES_MB) -> dict[str, Any]:
    """Return seconds, MiB and bytes sent by size of the model in MB, tool and step: a first bake and two rebuilds."""
    crane = _crane(report)
    tools = ["ours", "buildah", *(["crane"] if crane else [])]
    found: dict[str, dict[str, Any]] = {}
    for size in sizes:
        found[str(size)] = {tool: _measure(tool, size, crane, report) for tool in tools}
    return {"sizes": found, "base_mb": BASE_MB, "again": _again(report)}


def _again(report: Report) -> dict[str, Any]:
    """Return what `gpuserve bake` takes for a model that the registry has already: the median of some runs."""
    command = [_PYTHON.with_name("gpuserve"), "bake", ROOT / "stacks/models/filetype.yaml", "--build", "fp32", "--registry"]
    with tempfile.TemporaryDirectory(prefix="gpuserve-bench-") as name, _registry(Path(name)) as server:
        variables = {"XDG_CACHE_HOME": f"{name}/cache"}
        report("gpuserve bake filetype.yaml: with its base image about a minute")
        timed([*command, f"{server.host}/models"], variables)
        report("gpuserve bake filetype.yaml, again and again")
        runs = [timed([*command, f"{server.host}/models"], variables) for _ in range(AGAIN_RUNS)]
    middle = sorted(runs, key=lambda run: run.seconds)[AGAIN_RUNS // 2]
    return {"seconds": middle.seconds, "mebibytes": middle.mebibytes}


def _registry(folder: Path) -> Any:
    # The registry of the tests, so that all stand on the same one.
    sys.path.append(str(ROOT / "tests" / "e2e"))
    from e2e_registry import RegistryServer

    return RegistryServer(folder)


def _measure(tool: str, size: int, crane: Path | None, report: Report) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gpuserve-bench-") as name:
        folder = Path(name)
        with _registry(folder) as server:
            bench = _Bench(folder, folder / "data", server.host, crane)
            report(f"{tool}, {size} MB: making a base of {BASE_MB} MB and the model")
            _make_base(bench)
            bench.prepare(tool)
            bench.model.mkdir()
            (bench.model / "Dockerfile").write_text(_DOCKERFILE.format(base=bench.base))
            _write_random(bench.model / "model.onnx", size)
            try:
                return _steps(bench, tool, size, report)
            finally:
                bench.clear(tool)


def _steps(bench: _Bench, tool: str, size: int, report: Report) -> dict[str, Any]:
    actions = {"ours": bench.ours, "buildah": bench.buildah, "crane": bench.crane_append}
    result: dict[str, Any] = {}
    for step in ("first", "unchanged", "changed"):
        report(f"{tool}, {size} MB: {step}")
        if step != "unchanged":
            (bench.model / "config.pbtxt").write_text(f'name: "m" # {step}\n')
            time.sleep(_SETTLING_SECONDS)
        before = bench.stored()
        measured = actions[tool]()
        result[step] = {
            "seconds": measured.seconds,
            "mebibytes": measured.mebibytes,
            "sent_bytes": bench.stored() - before,
        }
    return result


def _make_base(bench: _Bench) -> None:
    from gpuserve_images.oci import File, Layer, bake

    server = bench.folder / "server"
    _write_random(server, BASE_MB)
    bake(bench.base, [Layer({"/server": File(server)})])
    server.unlink()


def _crane(report: Report) -> Path | None:
    """Return crane, built from its Go module once; None where there is no Go."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gpuserve", "bench", f"crane-{CRANE}")
    program = cache / "crane"
    if not program.exists():
        if not shutil.which("go"):
            report("no Go to build crane with: it is left out")
            return None
        report("building crane from its Go module")
        module = f"github.com/google/go-containerregistry/cmd/crane@{CRANE}"
        subprocess.run(["go", "install", module], env={**os.environ, "GOBIN": str(cache)}, check=True)
    return program


def _write_random(path: Path, size: int) -> None:
    with Path("/dev/urandom").open("rb") as source, path.open("wb") as target:
        for _ in range(size):
            target.write(source.read(MB))


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table: first bakes of all sizes, rebuilds of the larger ones."""
    names = {"first": "bake", "unchanged": "bake again, nothing changed", "changed": "bake again, `config.pbtxt` changed"}
    lines: list[Row] = []
    for size, tools in result["sizes"].items():
        for step, what in names.items():
            if step != "first" and int(size) < REBUILDS_FROM_MB:
                continue
            ours = tools["ours"][step]
            others = [_beside(name, run[step], ours) for name, run in tools.items() if name != "ours"]
            lines.append(
                Row(
                    f"{what}, {int(size):,} MB model on a {result['base_mb']:,} MB base",
                    f"{ours['seconds']:.1f} s, {ours['mebibytes']:.0f} MiB, {_bytes(ours['sent_bytes'])} sent",
                    "; ".join(others),
                )
            )
    again = result["again"]
    taken = f"{again['seconds']:.1f} s, {again['mebibytes']:.0f} MiB"
    return [*lines, Row("`gpuserve bake filetype.yaml` again, nothing changed: every stage's key and the registry", taken)]


def _beside(name: str, other: dict[str, float], ours: dict[str, float]) -> str:
    times = other["seconds"] / ours["seconds"]
    memory = f"{other['mebibytes']:.0f} MiB"
    return f"{name} {other['seconds']:.1f} s ({times:.1f} times ours), {memory}, {_bytes(other['sent_bytes'])} sent"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:  # noqa: PLR2004 - a thousand of a unit is the next unit
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def main() -> None:
    """Measure this alone: `python -m benchmarks.bake [--sizes 1 100]`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bake", description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES_MB), metavar="MB", help="sizes of the model")
    result = run(lambda line: print(f"  {line}", file=sys.stderr, flush=True), tuple(parser.parse_args().sizes))
    print(json.dumps(result, indent=2))
    for row in rows(result):
        print(f"| {row.what} | {row.result} | {row.beside} |")


if __name__ == "__main__":
    main()
