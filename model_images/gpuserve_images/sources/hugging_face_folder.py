"""What a Hugging Face folder must hold, told by its files' names and its index; nothing else of it is read."""

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED_INDEX = "pytorch_model.bin.index.json"
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("tiktoken.model",),
    ("*.tiktoken",),
    ("tekken.json",),
)
"""Sets of files, any of which is a tokenizer: fast, SentencePiece by its three names, byte-pair, WordPiece, tiktoken's (`*` is any word), and
Mistral's. Code of the folder's own is another, where a configuration names it."""

TOKENIZER_CONFIG = "tokenizer_config.json"

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that run code of whoever made them when they are loaded."""

WEIGHTS = (".safetensors", ".gguf", *PICKLED)
"""Endings of files that hold weights."""

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
"""Files that hold what was learnt on top of another model's weights, and none of these."""

TRAINING = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
"""Files that training leaves beside weights; servers pass them over, and they are no weights."""

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.safetensors|\.bin)")


@dataclass(frozen=True)
class Missing:
    """A part that is not there.

    Attributes:
        name: The file, or what kind of files.
        reason: What is known about it.
        fix: What to do.
    """

    name: str
    reason: str
    fix: str


def missing_parts(files: Mapping[str, Path]) -> list[Missing]:
    """Return every part that a folder lacks: config, tokenizer, weights, the index of shards, and shards.

    Args:
        files: All files of the folder, by their path below it.
    """
    found: list[Missing] = []
    top = [name for name in files if "/" not in name]
    if CONFIG not in files:
        found.append(Missing(CONFIG, "is missing", "Copy the whole folder of the model."))
    if not any(all(fnmatch.filter(top, name) for name in names) for names in TOKENIZERS) and not _tokenizer_code(files):
        known = " | ".join(" + ".join(names) for names in TOKENIZERS)
        found.append(
            Missing("tokenizer", "is missing", f"Copy it beside {CONFIG}: {known}, or the code that {TOKENIZER_CONFIG} names.")
        )
    return [*found, *_missing_weights(files)]


def told(parts: Sequence[Missing]) -> tuple[str, str, str]:
    """Return (where, reason, fix) of one error about all parts; there is at least one."""
    if len(parts) == 1:
        return parts[0].name, parts[0].reason, parts[0].fix
    reason = f"lacks {len(parts)} parts: " + "; ".join(f"{part.name} {part.reason}" for part in parts)
    return "Hugging Face folder", reason, " ".join(dict.fromkeys(part.fix for part in parts))


def weights_among(names: Iterable[str]) -> list[str]:
    """Return the files that hold a model's own weights, in order: adapters and what training leaves do not."""
    others = (*ADAPTERS, *TRAINING)
    ending = (name for name in names if name.endswith(WEIGHTS))
    return sorted(name for name in ending if not any(fnmatch.fnmatch(name.rpartition("/")[2], other) for other in others))


def index_map(files: Mapping[str, Path], index: str = INDEX) -> dict[str, str] | None:
    """Return an index's shard of each tensor; None where there is no index that can be read."""
    places = _read(files, index).get("weight_map")
    if not isinstance(places, dict) or not places:
        return None
    return {str(tensor): str(shard) for tensor, shard in cast("dict[object, object]", places).items()}


def _tokenizer_code(files: Mapping[str, Path]) -> bool:
    """Tell whether the folder has the file of a tokenizer's class that a configuration names: `auto_map: {AutoTokenizer: [file.Class, null]}`."""
    for config in (TOKENIZER_CONFIG, CONFIG):
        classes = _read(files, config).get("auto_map")
        named = cast("dict[str, object]", classes).get("AutoTokenizer") if isinstance(classes, dict) else None
        for name in cast("list[object]", named) if isinstance(named, list) else [named]:
            if isinstance(name, str) and f"{name.rpartition('.')[0]}.py" in files:
                return True
    return False


def _read(files: Mapping[str, Path], name: str) -> dict[str, object]:
    """Return a file of JSON, and nothing where there is none that can be read."""
    try:
        content: object = json.loads(files[name].read_text(encoding="utf-8"))
    except (KeyError, ValueError):
        return {}
    return cast("dict[str, object]", content) if isinstance(content, dict) else {}


def _missing_weights(files: Mapping[str, Path]) -> Iterator[Missing]:
    weights = weights_among(files)
    present = [name for name in weights if name.endswith(".safetensors")]
    index = INDEX if present or INDEX in files else PICKLED_INDEX
    shards = list(_missing_of_index(files, index))
    yield from shards
    if not shards and not weights:
        yield _no_weights(files)
    if len(present) == 1 and not {SINGLE, INDEX} & files.keys() and _alone(present[0]):
        yield Missing(SINGLE, f"is missing, and the weights are in {present[0]}", f"Call it {SINGLE}.")
    elif present and not {SINGLE, INDEX} & files.keys():
        yield Missing(INDEX, "is missing, and the weights are in shards", f"Copy it beside {present[0]}.")
    if not {SINGLE, index} & files.keys():
        yield from _missing_by_number(present or weights)


def _alone(name: str) -> bool:
    """Tell whether a file is no shard of several, by its name."""
    found = _SHARD.fullmatch(name)
    return found is None or int(found["count"]) == 1


def _no_weights(files: Mapping[str, Path]) -> Missing:
    adapter = next((name for name in ADAPTERS if name in files), None)
    if adapter is None:
        return Missing("weights", "are missing", f"Copy {SINGLE}, or {INDEX} and its shards.")
    reason = f"are missing: {adapter} holds an adapter, which works on top of another model's"
    return Missing(
        "weights", reason, "Merge it into that model (`merge_and_unload` of peft), save both as one, and name that folder."
    )


def _missing_of_index(files: Mapping[str, Path], index: str) -> Iterator[Missing]:
    """Yield the shards that the index names and the folder lacks; an index that cannot be read is another error."""
    tensors: dict[str, list[str]] = {}
    for tensor, shard in (index_map(files, index) or {}).items():
        tensors.setdefault(shard, []).append(tensor)
    for shard in sorted(tensors.keys() - files.keys()):
        first, *others = tensors[shard]
        reason = f"is missing: {index} places tensor {first} and {len(others)} more in it"
        yield Missing(shard, reason, f"Copy {shard} beside the index.")


def _missing_by_number(present: Sequence[str]) -> Iterator[Missing]:
    """Yield the shards that the names of the others count."""
    series = {found.group("stem", "count", "ending") for name in present if (found := _SHARD.fullmatch(name))}
    for stem, count, ending in sorted(series):
        for number in range(1, int(count) + 1):
            shard = f"{stem}-{number:05}-of-{count}{ending}"
            if shard not in present:
                yield Missing(shard, f"is missing: the others are numbered as {int(count)}", f"Copy {shard} beside the others.")
