"""Headers as gpuserve reads them are those of the format's own library, over every type that PyTorch and the format share."""

import json

import pytest
from environments import environment, run

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.safetensors import read_header
from gpuserve_images.layouts.served import LayoutError, ServedModel, Wishes

pytestmark = pytest.mark.slow
SAVE = """
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

folder = Path(sys.argv[1])
kinds = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32,
    torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.uint16, torch.uint32, torch.uint64,
]
shards = {"model-00001-of-00002.safetensors": kinds[:8], "model-00002-of-00002.safetensors": kinds[8:]}
places, sizes = {}, {}
for shard, part in shards.items():
    tensors = {str(kind): torch.zeros(3, 5).to(kind) for kind in part} | {f"empty {part[0]}": torch.zeros(0, 4, dtype=part[0])}
    tensors |= {f"scalar {part[0]}": torch.zeros((), dtype=part[0])}
    save_file(tensors, folder / shard, metadata={"format": "pt"})
    with safe_open(folder / shard, "pt") as opened:
        for name in opened.keys():
            tensor = opened.get_tensor(name)
            places[name], sizes[name] = shard, tensor.numel() * tensor.element_size()
index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
(folder / "model.safetensors.index.json").write_text(json.dumps(index))
(folder / "config.json").write_text('{"model_type": "test"}')
(folder / "tokenizer.json").write_text("{}")
(folder.parent / "sizes.json").write_text(json.dumps(sizes))
"""


def test_headers_are_read_as_the_library_reads_them(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    run(str(environment("torch")), "-c", SAVE, str(folder))
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    shards = sorted(folder.glob("*.safetensors"))
    assert {name: size for shard in shards for name, size in read_header(shard, shard.name).tensors.items()} == sizes
    _, record = lay_out("vllm", ServedModel.of("m", "huggingface", folder), Wishes())
    assert record.notes == ()
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-1])
    with pytest.raises(LayoutError, match="is cut off or damaged"):
        lay_out("vllm", ServedModel.of("m", "huggingface", folder), Wishes())
