"""Run inside the PyTorch environment: models for the export tests, written into the folder given."""

import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

folder = Path(sys.argv[1])
torch.manual_seed(0)
BATCH = torch.export.Dim("batch")


class Picture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 4)

    def forward(self, picture, scale):
        features = self.body(picture).flatten(1)
        return {"logits": self.head(features) * scale, "features": features}


class Constant(nn.Module):
    def forward(self):
        return torch.ones(3)


class Singular(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)


@dataclass
class Answer:
    """As Hugging Face's answers: a type that a process knows which has imported its package."""

    logits: torch.Tensor


torch.export.register_dataclass(Answer, serialized_type_name="transformers.modeling_outputs.Answer")


class Typed(nn.Module):
    def forward(self, x):
        return Answer(x * 2)


class Ordered(nn.Module):
    def forward(self, x):
        return OrderedDict(twice=x * 2, half=x / 2)


def save(name, model, args, shapes):
    torch.export.save(torch.export.export(model, args, dynamic_shapes=shapes), folder / f"{name}.pt2")


picture = Picture()
optimiser = torch.optim.Adam(picture.parameters(), 0.01)
for _ in range(20):
    pictures = torch.randn(16, 3, 12, 12)
    wanted = (pictures.mean((1, 2, 3)) > 0).long()
    loss = nn.functional.cross_entropy(picture(pictures, torch.ones(16, 1))["logits"], wanted)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
example = (torch.randn(2, 3, 12, 12), torch.ones(2, 1))
save("picture", picture.eval(), example, {"picture": {0: BATCH}, "scale": {0: BATCH}})
save("fixed", picture, example, None)
save("typed", Typed(), (torch.randn(2, 3),), ({0: BATCH},))
save("ordered", Ordered(), (torch.randn(2, 3),), ({0: BATCH},))
save("constant", Constant(), (), None)
save("singular", Singular(), (torch.randn(2, 3, 3),), ({0: BATCH},))

(folder / "net.py").write_text(
    '''
import os
import torch
from torch import nn

class Text(nn.Module):
    """A transformer encoder that classifies a sequence of tokens."""

    def __init__(self, width, words):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 2, 32, batch_first=True), 2)
        self.head = nn.Linear(width, 3)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)).mean(1))

def text(width=16, words=50):
    return Text(width, words)

def crash():
    os.abort()
''',
    encoding="utf-8",
)
sys.path.insert(0, str(folder))
from net import text  # noqa: E402 - just written

torch.save(picture, folder / "whole.pt")
# The same weights, as PyTorch itself saves them.
state = text(8).state_dict()
save_file(state, folder / "text.safetensors")
torch.save({"epoch": 3, "model_state": state, "optimizer": {"step": 3, "groups": [{"lr": 0.1}]}}, folder / "checkpoint.pt")
wrapped = {f"module.{name}": tensor for name, tensor in state.items()}  # by DataParallel
torch.save(wrapped, folder / "parallel.pth", _use_new_zipfile_serialization=False)
torch.save({"teacher": state, "student": state}, folder / "several.pt")
torch.jit.script(nn.Linear(3, 2)).save(folder / "script.pt")
(folder / "cut.pt").write_bytes((folder / "checkpoint.pt").read_bytes()[:4000])
