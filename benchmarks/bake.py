"""Baking a model onto a 1 GB base, against buildah with the equivalent Dockerfile; and what a rebuild sends.

Both are whole commands against the same registry on this machine. buildah has the base in its store already and may use its layer
cache (`--layers`); ours has nothing. The model is random bytes, which do not compress, as weights do not.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Report, Row, Run, timed

SIZES_MB = (1, 100, 1000)
BASE_MB = 1000
MB = 1_000_000

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


@dataclass(frozen=True)
class _Bench:
    """One registry with a base, and a folder to work in."""

    folder: Path
    data: Path
    host: str

    @property
    def base(self) -> str:
        """Reference of the base image."""
        return f"{self.host}/base:1"

    @property
    def store(self) -> list[str | Path]:
        """Options that give buildah a store of its own."""
        return ["--root", self.folder / "root", "--runroot", self.folder / "run"]

    def ours(self, size: int) -> Run:
        """Bake what is in the folder."""
        return timed([_PYTHON, "-c", _BAKE, f"{self.host}/ours-{size}:1", self.base, self.folder])

    def buildah(self, size: int) -> Run:
        """Build and push what is in the folder."""
        image = f"{self.host}/buildah-{size}:1"
        options = ["--layers", "--isolation", "chroot", "--format", "oci", "--tls-verify=false", "--tag", image]
        built = timed(["buildah", *self.store, "bud", *options, self.folder / "context"])
        pushed = timed(["buildah", *self.store, "push", "--tls-verify=false", image])
        return Run(built.seconds + pushed.seconds, max(built.mebibytes, pushed.mebibytes), "")

    def stored(self) -> int:
        """Return the bytes that the registry holds."""
        return sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())


def run(report: Report, sizes: tuple[int, ...] = SIZES_MB) -> dict[str, Any]:
    """Return seconds, MiB and bytes sent by size of the model in MB, for a first bake and two rebuilds."""
    # The registry of the tests, so that both stand on the same one.
    sys.path.append(str(ROOT / "tests" / "e2e"))
    from e2e_registry import RegistryServer

    with tempfile.TemporaryDirectory(prefix="gpuserve-bench-") as name:
        folder = Path(name)
        with RegistryServer(folder) as server:
            bench = _Bench(folder, folder / "data", server.host)
            try:
                _make_base(bench, report)
                return {"sizes": {str(size): _measure(bench, size, report) for size in sizes}, "base_mb": BASE_MB}
            finally:
                timed(["buildah", *bench.store, "rm", "--all"])


def _make_base(bench: _Bench, report: Report) -> None:
    from gpuserve_images.oci import File, Layer, bake

    report(f"making a base of {BASE_MB} MB")
    server = bench.folder / "server"
    _write_random(server, BASE_MB)
    bake(bench.base, [Layer({"/server": File(server)})])
    server.unlink()
    timed(["buildah", *bench.store, "pull", "--tls-verify=false", bench.base])


def _measure(bench: _Bench, size: int, report: Report) -> dict[str, Any]:
    context = bench.folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    model, config = bench.folder / "model.onnx", bench.folder / "config.pbtxt"
    _write_random(model, size)
    (context / "Dockerfile").write_text(_DOCKERFILE.format(base=bench.base))
    result: dict[str, Any] = {}
    for step in ("first", "unchanged", "changed"):
        report(f"{size} MB, {step}")
        if step != "unchanged":
            config.write_text(f'name: "m" # {step}\n')
        for name in ("model.onnx", "config.pbtxt"):
            shutil.copy2(bench.folder / name, context / name)
        result[step] = {
            "ours": _step(bench, lambda: bench.ours(size)),
            # Other bytes: the registry would have ours already, and buildah nothing to send.
            "buildah": _step(bench, lambda: _with_other_bytes(bench, size)),
        }
    return result


def _with_other_bytes(bench: _Bench, size: int) -> Run:
    with (bench.folder / "context" / "model.onnx").open("r+b") as stream:
        stream.write(b"buildah")
    return bench.buildah(size)


def _step(bench: _Bench, act: Callable[[], Run]) -> dict[str, float]:
    before = bench.stored()
    measured: Run = act()
    return {"seconds": measured.seconds, "mebibytes": measured.mebibytes, "sent_bytes": bench.stored() - before}


def _write_random(path: Path, size: int) -> None:
    with Path("/dev/urandom").open("rb") as source, path.open("wb") as target:
        for _ in range(size):
            target.write(source.read(MB))


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table: first bakes of all sizes, rebuilds of the largest."""
    largest = max(result["sizes"], key=int)
    names = {"first": "bake", "unchanged": "bake again, nothing changed", "changed": "bake again, `config.pbtxt` changed"}
    lines: list[Row] = []
    for size, steps in result["sizes"].items():
        for step, what in names.items():
            if step != "first" and size != largest:
                continue
            ours, buildah = steps[step]["ours"], steps[step]["buildah"]
            lines.append(
                Row(
                    f"{what}, {int(size):,} MB model on a {result['base_mb']:,} MB base",
                    f"{ours['seconds']:.1f} s, {ours['mebibytes']:.0f} MiB, {_bytes(ours['sent_bytes'])} sent",
                    f"buildah {buildah['seconds']:.1f} s ({buildah['seconds'] / ours['seconds']:.1f} times ours), "
                    f"{_bytes(buildah['sent_bytes'])} sent",
                )
            )
    return lines


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
