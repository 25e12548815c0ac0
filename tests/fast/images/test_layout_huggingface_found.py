"""Hugging Face folders as people have them: pickled weights, what training leaves, pointers of Git LFS, files that were cut off."""

import json

import pytest

from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import LayoutError, ServedModel, Wishes
from gpuserve_images.sources.formats import find

SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"
TRAINING = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state.pth")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def laid(root):
    return lay_out("vllm", ServedModel.of("chat", "huggingface", root), Wishes(allow_pickle=True))[0]


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")


def test_what_training_leaves_is_no_weights(folder):
    write(folder, *TRAINING)
    with pytest.raises(LayoutError, match="weights: are missing"):
        laid(folder)
    write(folder, "pytorch_model.bin")
    assert {f"/models/chat/{name}" for name in ("pytorch_model.bin", *TRAINING)} <= set(laid(folder))


def test_every_shard_of_pickled_weights_has_to_be_there(folder):
    write(folder, SHARDS[0])
    with pytest.raises(LayoutError, match=rf"{SHARDS[1]}: is missing: the others are numbered as 2"):
        laid(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}))
    with pytest.raises(LayoutError, match=rf"{SHARDS[1]}: is missing: {INDEX} places tensor b and 0 more in it"):
        laid(folder)
    write(folder, SHARDS[1])
    laid(folder)


def test_weights_that_no_server_looks_for_are_none(folder):
    write(folder, "original/consolidated.00.pth", "openvino/openvino_model.bin")
    with pytest.raises(LayoutError, match="weights: are not safetensors"):
        laid(folder)


@pytest.mark.parametrize("adapter", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_alone_is_told_to_be_one(folder, adapter):
    write(folder, adapter)
    with pytest.raises(LayoutError, match=rf"weights: are missing: {adapter} holds an adapter.*`merge_and_unload`"):
        laid(folder)
    (folder / "config.json").unlink()
    for declared in (None, "huggingface"):
        with pytest.raises(SourceError, match=rf"config.json is missing; weights are missing: {adapter} holds an adapter"):
            find(folder, "source.file", declared)


def point(root, *names):
    for name in names:
        (root / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n")


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "chat_template.jinja", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_no_file(folder, name):
    write(folder, "pytorch_model.bin", "tokenizer.model")
    laid(folder)
    point(folder, name)
    with pytest.raises(LayoutError, match=rf"{name}: is no more than a pointer of Git LFS. Fix: Run `git lfs pull`"):
        laid(folder)
    point(folder, "vocab.txt")
    with pytest.raises(LayoutError, match=r"vocab.txt.*: are no more than pointers"):
        laid(folder)


def test_pointers_that_no_server_reads_do_no_harm(folder):
    write(folder, "pytorch_model.bin", "onnx/model.onnx")
    point(folder, "picture.png", "onnx/model.onnx")
    laid(folder)


def test_a_tokenizer_without_a_byte_is_named(folder):
    write(folder, "pytorch_model.bin")
    (folder / "tokenizer.model").write_bytes(b"")
    with pytest.raises(LayoutError, match=r"tokenizer.model: has 0 bytes"):
        laid(folder)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "chat_template.json", "preprocessor_config.json", "vocab.json"])
def test_json_that_was_cut_off_is_named(folder, name):
    write(folder, "pytorch_model.bin")
    (folder / name).write_text('{"bos_token": "<s>"')
    with pytest.raises(LayoutError, match=rf"{name}: is no JSON"):
        laid(folder)
    (folder / name).write_text('{"bos_token": "<s>"}')
    laid(folder)


def unsafe(root):
    return lay_out("vllm", ServedModel.of("chat", "huggingface", root), Wishes())[0]


def test_all_pickled_files_are_named_at_once_and_numbers_of_openvino_are_none(folder):
    write(folder, "pytorch_model.bin", "1_Pooling/old.pt", "openvino/openvino_model.bin", "openvino/openvino_model.xml")
    with pytest.raises(
        LayoutError, match=r"^1_Pooling/old\.pt, pytorch_model\.bin: hold pickled Python.*Convert them to safetensors"
    ):
        unsafe(folder)


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "model-00001-of-00001.safetensors"])
def test_one_file_by_another_name_is_no_shard_of_several(folder, name):
    write(folder, name)
    with pytest.raises(
        LayoutError, match=rf"^model\.safetensors: is missing, and the weights are in {name}\. Fix: Call it model"
    ):
        unsafe(folder)
