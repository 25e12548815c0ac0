"""Hugging Face folders: complete ones pass, and what a broken one lacks is named."""

import json
import shutil

import pytest

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import LayoutError, ServedModel, Wishes

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHTS = {
    SHARDS[0]: {"embed": ("BF16", [4, 8]), "layer.0.weight": ("F32", [8, 8])},
    SHARDS[1]: {"layer.1.weight": ("F8_E4M3", [8, 8]), "scale": ("F32", [])},
}
TOTAL = 4 * 8 * 2 + 8 * 8 * 4 + 8 * 8 + 4


def safetensors(tensors, *, bytes_of=None, data_bytes=None):
    """Return a file in the safetensors format; sizes of elements are the format's own."""
    sizes = {"BF16": 2, "F32": 4, "F8_E4M3": 1}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in tensors.items():
        count = 1
        for size in shape:
            count *= size
        length = (bytes_of or {}).get(name, count * sizes.get(dtype, 1))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end if data_bytes is None else data_bytes)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (root / "generation_config.json").write_text('{"eos_token_id": 2}')
    (root / "tokenizer.json").write_text('{"version": "1.0"}')
    for shard, tensors in WEIGHTS.items():
        (root / shard).write_bytes(safetensors(tensors))
    write_index(root)
    return root


def write_index(root, total=TOTAL, **changes):
    weight_map = {tensor: shard for shard, tensors in WEIGHTS.items() for tensor in tensors} | changes
    (root / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    )


def laid(root, **wishes):
    return lay_out("vllm", ServedModel.of("chat", "huggingface", root), Wishes(**wishes))[0]


def test_a_complete_folder_is_taken_whole(folder):
    files = laid(folder)
    assert set(files) == {f"/models/chat/{path.name}" for path in folder.iterdir()}


def test_one_file_of_weights_needs_no_index(folder):
    for name in (*SHARDS, "model.safetensors.index.json", "generation_config.json"):
        (folder / name).unlink()
    (folder / "model.safetensors").write_bytes(safetensors(WEIGHTS[SHARDS[0]]))
    laid(folder)


@pytest.mark.parametrize(
    "names",
    [
        ["tokenizer.model"],
        ["spiece.model"],
        ["sentencepiece.bpe.model"],
        ["vocab.json", "merges.txt"],
        ["vocab.txt"],
        ["tiktoken.model"],
        ["qwen.tiktoken"],
        ["tekken.json"],
    ],
)
def test_any_kind_of_tokenizer(folder, names):
    (folder / "tokenizer.json").unlink()
    (folder / names[0]).write_bytes(b"{}")
    if len(names) > 1:
        with pytest.raises(LayoutError, match="tokenizer: is missing"):
            laid(folder)
    for name in names:
        (folder / name).write_bytes(b"{}")
    laid(folder)


@pytest.mark.parametrize("config", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("classes", [["tokenization_own.OwnTokenizer", None], "tokenization_own.OwnTokenizer"])
def test_a_tokenizer_that_is_code_of_the_folder(folder, config, classes):
    (folder / "tokenizer.json").unlink()
    told = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoTokenizer": classes}}
    (folder / config).write_text(json.dumps(told))
    with pytest.raises(LayoutError, match=r"tokenizer: is missing.*or the code that tokenizer_config.json names"):
        laid(folder)
    (folder / "tokenization_own.py").write_text("class OwnTokenizer: ...")
    laid(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"auto_map": ["a.B"]}', '{"auto_map": {"AutoTokenizer": [null, 3]}}'])
def test_a_configuration_that_names_no_code_is_no_tokenizer(folder, text):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(text)
    (folder / "other").mkdir()
    (folder / "other/qwen.tiktoken").write_bytes(b"elsewhere")
    with pytest.raises(LayoutError, match="tokenizer: is missing"):
        laid(folder)


def break_config(root):
    (root / "config.json").write_text("{}")


def break_generation(root):
    (root / "generation_config.json").write_text('{"eos_token_id": ')


def swap_shards(root):
    first, second = ((root / shard).read_bytes() for shard in SHARDS)
    (root / SHARDS[0]).write_bytes(second)
    (root / SHARDS[1]).write_bytes(first)


def cut(root):
    content = (root / SHARDS[1]).read_bytes()
    (root / SHARDS[1]).write_bytes(content[:-7])


def pointer(root):
    (root / SHARDS[1]).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def wrong_size(root):
    (root / SHARDS[0]).write_bytes(safetensors(WEIGHTS[SHARDS[0]], bytes_of={"layer.0.weight": 100}))


def unknown_type(root):
    (root / SHARDS[1]).write_bytes(safetensors({**WEIGHTS[SHARDS[1]], "scale": ("F31", [1])}))


def stray_tensor(root):
    (root / SHARDS[0]).write_bytes(safetensors({**WEIGHTS[SHARDS[0]], "adapter": ("F32", [1])}))


def damaged_header(root):
    content = bytearray((root / SHARDS[0]).read_bytes())
    content[8] = ord("[")
    (root / SHARDS[0]).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "config.json").unlink(), "config.json: is missing"),
        (break_config, "config.json: names no `architectures`"),
        (break_generation, "generation_config.json: is no JSON"),
        (lambda root: (root / "tokenizer.json").unlink(), "tokenizer: is missing"),
        (lambda root: (root / SHARDS[1]).unlink(), r"00002-of-00002.*: is missing: .* tensor layer.1.weight and 1 more"),
        (lambda root: (root / "model.safetensors.index.json").unlink(), "index.json: is missing, and the weights are in shards"),
        (lambda root: [(root / name).unlink() for name in (*SHARDS, "model.safetensors.index.json")], "weights: are missing"),
        (swap_shards, "00001-of-00002.safetensors: lacks tensor embed"),
        (cut, r"00002-of-00002.safetensors: should have \d+ bytes and has \d+. Fix: The file is cut off"),
        (pointer, r"00002-of-00002.safetensors: is no more than a pointer of Git LFS.*`git lfs pull`"),
        (wrong_size, r"layer.0.weight \(F32 \[8, 8\] needs 256 bytes, has 100\): has another size"),
        (unknown_type, r"scale \(F31\): has an unknown type"),
        (stray_tensor, "00001-of-00002.safetensors: holds tensor adapter, which"),
        (damaged_header, "00001-of-00002.safetensors: has a damaged header"),
        (lambda root: write_index(root, extra=SHARDS[0]), "00001-of-00002.safetensors: lacks tensor extra"),
        (lambda root: (root / "pytorch_model.bin").write_bytes(b"x"), "pytorch_model.bin: holds pickled Python"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(folder, spoil, words):
    spoil(folder)
    with pytest.raises(LayoutError, match=words):
        laid(folder)


PLACE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"w": 12}, r"w \(12\): is not described by type, shape and place"),
        ({"w": None}, r"w \(None\): is not described"),
        ({"w": PLACE | {"shape": None}}, r"w \(None\): has no shape"),
        ({"w": PLACE | {"shape": ["one"]}}, r"w \(\['one'\]\): has no shape"),
        ({"w": PLACE | {"shape": [True]}}, r"w \(\[True\]\): has no shape"),
        ({"w": PLACE | {"data_offsets": ["a", "b"]}}, "w: has no place in the file"),
        ({"w": PLACE | {"data_offsets": [-4, 0]}}, "w: has no place in the file"),
        ({"w": PLACE | {"data_offsets": 4}}, "w: has no place in the file"),
        ([], "has a header that is no JSON object"),
        ("deep", "has a damaged header"),
    ],
)
def test_json_that_is_no_header_is_named(folder, header, words):
    for name in (*SHARDS, "model.safetensors.index.json"):
        (folder / name).unlink()
    text = (b'{"w":' + b"[" * 100_000) if header == "deep" else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(LayoutError, match=words):
        laid(folder)


def test_all_that_is_missing_is_named_at_once(folder):
    for name in ("config.json", "tokenizer.json", SHARDS[1]):
        (folder / name).unlink()
    with pytest.raises(LayoutError) as caught:
        laid(folder)
    expected = (
        "Hugging Face folder: lacks 3 parts: config.json is missing; tokenizer is missing; "
        f"{SHARDS[1]} is missing: model.safetensors.index.json places tensor layer.1.weight and 1 more in it. Fix: Copy "
    )
    assert str(caught.value).startswith(expected)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(LayoutError) as caught:
        laid(folder)
    for words in (
        "lacks 4 parts",
        "model.safetensors.index.json is missing",
        f"{SHARDS[1]} is missing: the others are numbered",
    ):
        assert words in str(caught.value)


def test_an_index_that_names_nothing_hides_no_missing_weights(folder):
    for name in SHARDS:
        (folder / name).unlink()
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(LayoutError, match="weights: are missing"):
        laid(folder)


def test_what_is_odd_but_does_no_harm_is_noted(folder):
    model = ServedModel.of("chat", "huggingface", folder)
    assert lay_out("vllm", model, Wishes())[1].notes == ()
    shutil.copy(folder / SHARDS[0], folder / "consolidated.safetensors")
    write_index(folder, total=TOTAL + 1)
    _, record = lay_out("vllm", ServedModel.of("chat", "huggingface", folder), Wishes())
    index = "model.safetensors.index.json"
    expected = (
        f"consolidated.safetensors is no shard of {index}",
        f"{index} states {TOTAL + 1} bytes, its shards have {TOTAL}",
    )
    assert record.notes == expected


def test_what_a_server_loads_beside_the_weights_is_noted(folder):
    for name in (*SHARDS, "model.safetensors.index.json"):
        (folder / name).unlink()
    for name in ("model.safetensors", "adapter_model.safetensors"):
        (folder / name).write_bytes(safetensors({"embed": ("BF16", [4, 8])}))
    _, record = lay_out("vllm", ServedModel.of("chat", "huggingface", folder), Wishes())
    assert record.notes == (
        "vLLM loads adapter_model.safetensors too: without model.safetensors.index.json it takes every .safetensors of the folder",
    )


def test_pickled_weights_are_taken_when_they_are_allowed(folder):
    for name in (*SHARDS, "model.safetensors.index.json"):
        (folder / name).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "/models/chat/pytorch_model.bin" in laid(folder, allow_pickle=True)
