"""What an engine is made of: layers, precisions and memory, for the report."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from gpuserve.kubernetes.spec import Spec
from gpuserve_images.compile.alone import alone
from gpuserve_images.compile.starting import make_logger, make_runtime
from gpuserve_images.records import StageRecord

MEMORY = re.compile(r"Total (Host Persistent|Device Persistent|Activation|Weights) Memory: (\d+)|(Max Scratch) Memory: (\d+)")
"""The builder's own account of an engine's memory, which it logs at the end of a build."""

BYTES_NAMES = {
    "Host Persistent": "host_persistent",
    "Device Persistent": "device_persistent",
    "Activation": "activations",
    "Weights": "weights",
    "Max Scratch": "scratch",
}

FORMATS = (
    ("FP16", r"fp16|half"),
    ("BF16", r"bf16"),
    ("FP32", r"fp32|float"),
    ("FP8", r"fp8"),
    ("INT8", r"int8"),
    ("INT64", r"int64"),
)
"""Precision -> how the inspector writes it: "Row major linear FP16 format", "Thirty-two wide channel vectorized row major Int8 format"."""


class EngineSummary(Spec):
    """What an engine is made of.

    Attributes:
        source: `engine` when the finished engine was asked, which takes its GPU; `network` when only the network could be, before the
            builder fused layers.
        layers: Number of layers by kind.
        precisions: Number of layers by the type of their first output.
        memory: Bytes by use: `weights`, `activations`, `scratch`, `host_persistent`, `device_persistent`.
    """

    source: str
    layers: Mapping[str, int]
    precisions: Mapping[str, int]
    memory: Mapping[str, int]


def engine_summaries(records: Iterable[StageRecord]) -> dict[str, EngineSummary]:
    """Return what each engine of a build is made of, by architecture, from the records of its stages."""
    options = [record.options for record in records if record.stage == "compile"]
    return {option["architecture"]: EngineSummary.model_validate(option["summary"]) for option in options}


def summarise_network(network: Any, logger: Any) -> EngineSummary:
    """Summarise a network and what the builder said of its memory: possible on any machine."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return EngineSummary(
        source="network",
        layers=_counted(layer.type.name for layer in layers),
        precisions=_counted(layer.get_output(0).dtype.name for layer in layers if layer.num_outputs and layer.get_output(0)),
        memory=memory_of(logger.infos),
    )


@alone
def summarise_engine(trt: ModuleType, engine: bytes, logger: Any | None = None) -> EngineSummary | None:
    """Ask the engine inspector; None where the engine cannot be loaded, for want of its GPU.

    Args:
        trt: The builder.
        engine: The serialised engine, built with detailed profiling verbosity.
        logger: The logger of its build, for the memory.
    """
    quiet = make_logger(trt)
    loaded = make_runtime(trt, quiet).deserialize_cuda_engine(engine)
    if loaded is None:
        return None
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = [layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict)]
    memory = {"device": int(loaded.device_memory_size_v2), **memory_of(logger.infos if logger else ())}
    return EngineSummary(
        source="engine",
        layers=_counted(layer.get("LayerType", "unknown") for layer in layers),
        precisions=_counted(_precision(layer) for layer in layers),
        memory=memory,
    )


def memory_of(messages: Iterable[str]) -> dict[str, int]:
    """Read the memory that the builder logged, in bytes by use."""
    found: dict[str, int] = {}
    for message in messages:
        match = MEMORY.search(message)
        if match:
            found[BYTES_NAMES[match[1] or match[3]]] = int(match[2] or match[4])
    return dict(sorted(found.items()))


def _precision(layer: Mapping[str, Any]) -> str:
    outputs = layer.get("Outputs") or [{}]
    text = str(outputs[0].get("Format/Datatype", "")).lower()
    return next((name for name, pattern in FORMATS if re.search(pattern, text)), "unknown")


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
