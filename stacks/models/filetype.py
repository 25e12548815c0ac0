"""Files to tensors and tensors to file types, as the `magika` package does it.

The features are magika's version 2 (block of 4096 bytes from each end, stripped of white space, 1024 bytes of each, padded with 256)
and the answer follows its high-confidence mode, which says `txt` or `unknown` where the model is not sure enough. Both follow magika
1.x, `magika/magika.py`; a test holds them to that package's own answers.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "standard_v3_3"


def encode(path: Path) -> dict[str, NDArray[np.int32]]:
    """Return the model's input for one file, a batch of 1.

    Raises:
        ValueError: When the file has too few bytes for the model; magika answers those by rule.
    """
    config = _config()
    block = config["block_size"]
    with path.open("rb") as stream:
        head = stream.read(block)
        stream.seek(max(0, path.stat().st_size - block))
        tail = stream.read(block)
    begin, end = head.lstrip()[: config["beg_size"]], tail.rstrip()[-config["end_size"] :]
    if len(begin) < config["min_file_size_for_dl"]:
        msg = f"{path} has {len(begin)} bytes besides white space, the model needs at least {config['min_file_size_for_dl']}"
        raise ValueError(msg)
    features = np.full(config["beg_size"] + config["end_size"], config["padding_token"], dtype=np.int32)
    features[: len(begin)] = np.frombuffer(begin, dtype=np.uint8)
    features[features.size - len(end) :] = np.frombuffer(end, dtype=np.uint8)
    return {"bytes": features[np.newaxis]}


def decode(outputs: Mapping[str, NDArray[Any]]) -> str:
    """Return the file type, such as `python`, that the model's output for one file means."""
    config = _config()
    scores = outputs["target_label"][0]
    best = int(scores.argmax())
    label = config["target_labels_space"][best]
    answer: str = config["overwrite_map"].get(label, label)
    if scores[best] >= config["thresholds"].get(label, config["medium_confidence_threshold"]):
        return answer
    return "txt" if _content_types()[answer]["is_text"] else "unknown"


@cache
def _config() -> dict[str, Any]:
    return _read(f"models/{MODEL}/config.min.json")


@cache
def _content_types() -> dict[str, Any]:
    return _read("config/content_types_kb.min.json")


def _read(name: str) -> dict[str, Any]:
    # Found without importing magika, which would load a second copy of the model.
    spec = find_spec("magika")
    if spec is None or not spec.submodule_search_locations:
        msg = "the package magika is not installed; pip install magika"
        raise ImportError(msg)
    return json.loads((Path(spec.submodule_search_locations[0]) / name).read_text(encoding="utf-8"))
