"""Hugging Face folders, as vLLM and other LLM servers load them: checked to be complete before they go into an image.

What is needed: `config.json`, a tokenizer, and weights as safetensors, in one file or in shards that an index lists
(`sources.hugging_face_folder`). The header of each file is read, which says names, types and places of its tensors; weights
themselves are not. Format:
https://github.com/huggingface/safetensors, README, section "Format".
"""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from gpuserve_images.layouts.safetensors import Header, read_header
from gpuserve_images.layouts.served import Files, Layout, LayoutError, ModelFiles, ServedModel, Wishes, layout_record
from gpuserve_images.sources.git_lfs import FIX, is_pointer
from gpuserve_images.sources.hugging_face_folder import (
    CONFIG,
    INDEX,
    PICKLED,
    SINGLE,
    TOKENIZER_CONFIG,
    TOKENIZERS,
    index_map,
    missing_parts,
    told,
    weights_among,
)

ROOT = "/models"
"""Folder of models in the image; the server is started with `--model /models/<name>`."""

FORMATS = ("huggingface",)
"""Formats that vLLM serves."""

OBJECTS = (
    "generation_config.json",
    TOKENIZER_CONFIG,
    "tokenizer.json",
    "vocab.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files of JSON that a server loads where they are there: how it generates, cuts words, talks, and reads pictures and sounds."""

LOADED = (".bin", ".pt")
"""Endings of pickled weights that vLLM loads, from the top of the folder only (`load_format` in its documentation)."""


def folder(model: ServedModel, wishes: Wishes) -> Layout:
    """Return the files of a complete Hugging Face folder.

    Args:
        model: The model; its newest version is served.
        wishes: How it is to be served; `allow_pickle` lets pickled weights in.

    Raises:
        LayoutError: Naming the file or the tensor that is missing, cut off or too many.
    """
    files, notes = checked(model, wishes, f"{ROOT}/{model.name}")
    return files, layout_record("vllm", model, files).model_copy(update={"notes": notes})


def checked(model: ServedModel, wishes: Wishes, root: str) -> tuple[Files, tuple[str, ...]]:
    """Return the files of a complete folder below `root`, and what is odd about them.

    Raises:
        LayoutError: As `folder` does.
    """
    notes = check(model.newest, allow_pickle=wishes.allow_pickle)
    return {f"{root}/{name}": path for name, path in model.newest.files.items()}, notes


def check(files: ModelFiles, *, allow_pickle: bool = False) -> tuple[str, ...]:
    """Refuse a folder that a server could not load; return what is odd, but does no harm.

    Raises:
        LayoutError: Naming every file that is missing, else the file or the tensor that is cut off or too many.
    """
    missing = missing_parts(files.files)
    if missing:
        raise LayoutError(*told(missing))
    _require_content(files)
    config = _json(files, CONFIG)
    if not config.get("architectures") and not config.get("model_type"):
        raise LayoutError(CONFIG, "names no `architectures` and no `model_type`", "Copy the model's own config.json.")
    for name in OBJECTS:
        if name in files.files:
            _json(files, name)
    return _check_weights(files, allow_pickle=allow_pickle)


def _require_content(files: ModelFiles) -> None:
    """Refuse files that a server reads and that are none yet: pointers of Git LFS, and tokenizers without a byte.

    Raises:
        LayoutError: Naming all of them.
    """
    weights = weights_among(files.files)
    # Pickled weights are read where there are no others.
    loaded = [name for name in weights if name.endswith(".safetensors")] or weights
    tokenizers = [name for names in TOKENIZERS for pattern in names for name in fnmatch.filter(files.files, pattern)]
    others = [name for name in files.files if name.endswith((".json", ".jinja"))]
    read = [name for name in sorted({*loaded, *tokenizers, *others}) if "/" not in name]
    pointers = [name for name in read if is_pointer(files.files[name])]
    if pointers:
        reason = "is no more than a pointer of Git LFS" if len(pointers) == 1 else "are no more than pointers of Git LFS"
        raise LayoutError(", ".join(pointers), reason, FIX)
    # A tokenizer of whole words has no merges.
    empty = [name for name in tokenizers if name in read and name != "merges.txt" and not files.files[name].stat().st_size]
    if empty:
        raise LayoutError(", ".join(empty), "has 0 bytes", "Copy it again.")


def _check_weights(files: ModelFiles, *, allow_pickle: bool) -> tuple[str, ...]:
    # OpenVINO's are numbers, with the graph beside them.
    ending = (name for name in files.files if name.endswith(PICKLED))
    pickled = sorted(name for name in ending if f"{name.removesuffix('.bin')}.xml" not in files.files)
    if pickled and not allow_pickle:
        verb, them = ("holds", "it") if len(pickled) == 1 else ("hold", "them")
        reason = f"{verb} pickled Python, which can run anything when it is loaded"
        fix = (
            f"Convert {them} to safetensors, remove {them}, name what is wanted with `include:` of an address, or write "
            "`allow_pickle: true` when you trust who made them."
        )
        raise LayoutError(", ".join(pickled), reason, fix)
    weights = weights_among(files.files)
    present = [name for name in weights if name.endswith(".safetensors")]
    if INDEX in files.files:
        return _check_index(files, present)
    if SINGLE in present:
        read_header(files.files[SINGLE], SINGLE)
        # Some models take what they do not know, such as an adapter's tensors, and others end with a KeyError.
        beside = sorted(name for name in files.files if name.endswith(".safetensors") and name != SINGLE and "/" not in name)
        return tuple(f"vLLM loads {name} too: without {INDEX} it takes every .safetensors of the folder" for name in beside)
    if not any(name.endswith(LOADED) and "/" not in name for name in weights):
        fix = f"Copy {SINGLE}, or {INDEX} and its shards."
        raise LayoutError("weights", "are not safetensors", fix)
    return ()


def _check_index(files: ModelFiles, present: list[str]) -> tuple[str, ...]:
    index = _json(files, INDEX)
    weight_map = index_map(files.files)
    if weight_map is None:
        raise LayoutError(INDEX, "has no `weight_map`", "Copy the index again.")
    shards = sorted(set(weight_map.values()))
    headers = {shard: read_header(files.files[shard], shard) for shard in shards}
    for tensor, shard in weight_map.items():
        if tensor not in headers[shard].tensors:
            reason = f"lacks tensor {tensor}, which {INDEX} places in it"
            raise LayoutError(shard, reason, "Copy shard and index of one revision.")
    for shard, tensor in _strays(headers, weight_map):
        reason = f"holds tensor {tensor}, which {INDEX} does not place in it"
        raise LayoutError(shard, reason, "Copy shard and index of one revision.")
    # Published folders have both of these, and servers that go by the index load them all the same.
    spare = [f"{name} is no shard of {INDEX}" for name in present if name not in headers]
    return (*spare, *_total(index, headers))


def _total(index: Mapping[str, Any], headers: Mapping[str, Header]) -> Iterator[str]:
    metadata = index.get("metadata")
    stated = cast("dict[str, object]", metadata).get("total_size") if isinstance(metadata, dict) else None
    found = sum(header.tensor_bytes for header in headers.values())
    if isinstance(stated, int) and stated != found:
        yield f"{INDEX} states {stated} bytes, its shards have {found}"


def _strays(headers: Mapping[str, Header], weight_map: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for shard, header in headers.items():
        for tensor in header.tensors:
            if weight_map.get(tensor) != shard:
                yield shard, tensor


def _json(files: ModelFiles, name: str) -> dict[str, Any]:
    try:
        content: object = json.loads(files.files[name].read_text(encoding="utf-8"))
    except ValueError as error:
        raise LayoutError(name, f"is no JSON: {error}", "Copy it again.") from error
    if not isinstance(content, dict):
        raise LayoutError(name, "is no JSON object", "Copy it again.", value=type(content).__name__)
    return cast("dict[str, Any]", content)
