"""TorchServe: a `.mar` made by the real archiver, `config.properties` and `log4j2.xml`.

Properties: https://github.com/pytorch/serve, `docs/configuration.md` (0.12, the last release: the project is archived).
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from gpuserve_images.layouts.features import copies
from gpuserve_images.layouts.served import Files, Layout, LayoutError, ServedModel, Wishes, layout_record
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.records import tool_versions

ROOT = "/models"
"""Folder of everything in the image: the layout that KServe expects of TorchServe too."""

HANDLER = Path(__file__).parent / "inside/torchserve_handler.py"
ENTRIES = {"onnx": (".onnx",), "torch": (".pt", ".pt2")}
"""Format -> names of model files that the handler opens: ONNX; TorchScript or an exported program."""

SCRIPTED = frozenset({"constants.pkl"})
EXPORTED = frozenset({"archive_format", "serialized_exported_program.json"})
"""Names of files in the archives that TorchScript and `torch.export` write, and `torch.save` does not."""

FORMATS = tuple(ENTRIES)
"""Formats that TorchServe serves."""

RESPONSE_TIMEOUT = 120
"""Seconds that TorchServe waits for a worker; its own default."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold: equal inputs make equal archives."""

LOG4J2 = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <Console name="out" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} [%-5p] %t %c - %m%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="io.netty" level="error"/>
    <Logger name="org.apache" level="off"/>
    <Logger name="org.pytorch.serve.wlm" level="warn"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Root level="info">
      <AppenderRef ref="out"/>
    </Root>
  </Loggers>
</Configuration>
"""
"""Everything to the container's output: the default writes files below the working folder, which is often read-only. Metrics are
scraped from their own port, and what workers do with each request is not worth five lines, so both are left out."""


def model_store(model: ServedModel, wishes: Wishes, *, mounted: str = ROOT) -> Layout:
    """Return `model-store/<name>.mar` and `config/`.

    Args:
        model: The model; its newest version is served. Without a signature, inputs are taken in the order of the request.
        wishes: How it is to be served; `scratch` is where the archive is written.
        mounted: Where the server sees the image's `/models`. Default: there.

    Raises:
        LayoutError: When the archiver is not installed, or the file is none that TorchServe can open.
    """
    files: Files = {
        f"{ROOT}/model-store/{model.name}.mar": _archive(model, wishes),
        f"{ROOT}/config/config.properties": _properties(model, wishes, mounted).encode(),
        f"{ROOT}/config/log4j2.xml": LOG4J2.encode(),
    }
    record = layout_record("torchserve", model, files)
    return files, record.model_copy(update={"tools": tool_versions("torch-model-archiver")})


def _properties(model: ServedModel, wishes: Wishes, mounted: str) -> str:
    workers = copies(wishes.options)
    served = {
        model.name: {
            f"{max(model.versions)}.0": {
                "defaultVersion": True,
                "marName": f"{model.name}.mar",
                "minWorkers": workers,
                "maxWorkers": workers,
                "batchSize": wishes.batch.max if model.signature is not None and model.signature.batched else 1,
                # Whole milliseconds, and never none: TorchServe reads 0 as no limit.
                "maxBatchDelay": max(1, round(wishes.batch.queue_delay.seconds * 1000)),
                "responseTimeout": RESPONSE_TIMEOUT,
            }
        }
    }
    properties = {
        "inference_address": "http://0.0.0.0:8080",
        # Whoever reaches it can load any model, so it stays inside the pod.
        "management_address": "http://127.0.0.1:8081",
        "metrics_address": "http://0.0.0.0:8082",
        # TorchServe's own defaults for gRPC bind to loopback.
        "grpc_inference_address": "0.0.0.0",  # noqa: S104 - inside a pod, behind its Service
        "grpc_inference_port": "7070",
        "grpc_management_port": "7071",
        "model_store": f"{mounted}/model-store",
        "load_models": f"{model.name}.mar",
        "models": json.dumps(served, separators=(",", ":")),
        "metrics_mode": "prometheus",
        # Tokens are for servers that strangers reach directly; here the gateway decides who may call.
        "disable_token_authorization": "true",
        "install_py_dep_per_model": "false",
        # `TS_<PROPERTY>` of the container's environment wins over this file.
        "enable_envvars_config": "true",
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _archive(model: ServedModel, wishes: Wishes) -> Path:
    """Write the model's archive, the same for the same inputs."""
    version = model.newest
    if Path(version.entry).suffix not in ENTRIES[model.format]:
        fix = f"Save the model as one of {[f'model{suffix}' for suffix in ENTRIES[model.format]]}."
        raise LayoutError(f"model {model.name}", "is no file that TorchServe can open", fix, value=version.entry)
    if model.format == "torch":
        _require_program(model.name, version.path)
    if wishes.scratch is None:
        raise LayoutError("layout", "has no folder to write an archive to", "Pass `scratch`.")
    if find_spec("model_archiver") is None:
        fix = "pip install 'gpuserve[torchserve]'"
        raise LayoutError("runtime", "needs the archiver of TorchServe, which is not installed", fix, value="torchserve")
    out = wishes.scratch / f"{model.name}.mar"
    with tempfile.TemporaryDirectory(dir=wishes.scratch) as temporary:
        work = Path(temporary)
        options = work / "model-config.yaml"
        options.write_text(yaml.safe_dump(_handler_options(model.signature, wishes)), encoding="utf-8")
        folder = _run_archiver(model, work, options)
        # The archiver puts every other file into one folder, and the model finds its external data by the path that it names.
        beside = {name: path for name, path in version.files.items() if name != version.entry}
        archived = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        taken = sorted(archived.keys() & beside.keys())
        if taken:
            reason = "keeps weights in a file that is called as one of TorchServe's own"
            raise LayoutError(f"model {model.name}", reason, "Save them under another name.", value=taken[0])
        _zip({**archived, **beside}, out)
    return out


def _require_program(name: str, path: Path) -> None:
    """Refuse what the handler cannot load: weights without a program, and a program of the other kind than its name says.

    Raises:
        LayoutError: Naming the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {Path(entry).name for entry in archive.namelist()}
    except zipfile.BadZipFile:
        inside = set[str]()
    kinds = {".pt": (SCRIPTED, "TorchScript"), ".pt2": (EXPORTED, "a program of torch.export")}
    marks, wanted = kinds.pop(path.suffix)
    if marks & inside:
        return
    (other, (others, found)) = kinds.popitem()
    if others & inside:
        reason, fix = f"is {found}, and its name says that it is {wanted}", f"Call it model{other}."
    else:
        reason = (
            f"is not {wanted}: it holds weights or pickled objects at most, and no program that runs without its Python code"
        )
        save = "`torch.jit.trace(model, (example,)).save('model.pt')`"
        fix = f"Save the model with {save}, or with torch.export.save as model.pt2."
    raise LayoutError(f"model {name}", reason, fix, value=path.name)


def _handler_options(signature: Signature | None, wishes: Wishes) -> dict[str, Any]:
    threads = wishes.options.threads
    return {
        "inputs": [tensor.name for tensor in signature.inputs] if signature else [],
        "outputs": [tensor.name for tensor in signature.outputs] if signature else [],
        "batched": signature is not None and signature.batched,
        # One thread per operator where several workers share the machine; 0 is one per core.
        "intra_op": threads.intra_op if threads.intra_op is not None else int(copies(wishes.options) > 1),
        "inter_op": threads.inter_op or 0,
    }


def _run_archiver(model: ServedModel, work: Path, options: Path) -> Path:
    """Run the archiver and return the folder it made; it works in TMPDIR, where it removes what has the model's name."""
    (work / "tmp").mkdir()
    (work / "out").mkdir()
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "no-archive"]
    command += ["--model-name", model.name, "--version", f"{max(model.versions)}.0"]
    command += ["--serialized-file", str(model.newest.path), "--handler", str(HANDLER), "--config-file", str(options)]
    command += ["--export-path", str(work / "out")]
    environment = {**os.environ, "TMPDIR": str(work / "tmp")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        reason = f"was refused by the archiver: {' '.join(done.stderr.split())[-500:]}"
        raise LayoutError(f"model {model.name}", reason, "Correct what it names.")
    folder = work / "out" / model.name
    manifest = folder / "MAR-INF/MANIFEST.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["createdOn"] = "01/01/1980 00:00:00"
    manifest.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
    return folder


def _zip(files: Mapping[str, Path], out: Path) -> None:
    """Pack an archive without times and without compression: the image's layer is compressed anyway."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while block := source.read(1 << 20):
                    target.write(block)
