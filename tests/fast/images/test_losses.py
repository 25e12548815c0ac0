"""Which layers of a build in a lower precision are to blame for a bar that it misses."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from e2e_graphs import graph_of, written
from e2e_small_model import FEATURES
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from gpuserve_images.errors import SourceError
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.exam import Exam
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Done
from gpuserve_images.pipeline.stages.kept import keep_losses, losses_of
from gpuserve_images.records import StageRecord, silent
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.losses import Losses, fewest, proved, ranked, stride

GPU = Target("gpu")
BASE = "registry/base:1"
node = helper.make_node


@given(layers=st.integers(0, 60), enough=st.integers(1, 70))
def test_the_fewest_layers_that_do(layers, enough):
    names = [str(number) for number in range(layers)]
    asked = []
    found = fewest(names, lambda kept: asked.append(kept) or len(kept) >= enough)
    assert found == tuple(names[:enough] if enough <= layers // 2 else ())
    assert len(asked) <= 2 * len(names).bit_length()


def test_what_keeps_its_promise_only_with_more_is_told_with_more():
    names = tuple("abcdefghij")
    assert proved(names, names[:2], lambda kept: len(kept) >= 2) == tuple("ab")
    assert proved(names, names[:2], lambda kept: len(kept) >= 3) == tuple("abcd")
    assert proved(names, names[:2], lambda kept: len(kept) >= 5) == tuple("abcde")
    assert proved(names, names[:2], lambda _: False) == ()
    assert proved(names, (), lambda _: True) == ()


@pytest.mark.parametrize(
    ("requests", "seconds", "every"),
    [(1000, 0.001, 1), (1000, 0.3, 12), (1000, 5.0, 125), (10, 100.0, 1), (1, 1.0, 1)],
)
def test_the_search_asks_no_more_than_anybody_waits_for(requests, seconds, every):
    assert stride(requests, 57, seconds) == every
    assert requests == 1 or requests // every >= 8


def test_what_to_do_is_said():
    layers = {"a": 0.5, "b: c": 0.25, "c": 0.1, "d": 0.0}
    some = Losses(layers=layers, keep=("b: c",)).fix(["Softmax"], "Use another.")
    few = "with 1 of its 4 layers, where most is lost, in fp32 it is within its bars"
    assert some == f"Write `keep_fp32: [Softmax, 'b: c']` in the build: {few}. Or use another."
    none = Losses(layers=layers).fix([], "Use another.")
    assert (
        none
        == "Use another. `keep_fp32:` would not do: most is lost in a, b: c, c, and with half of its 4 layers in fp32 it misses its bars too."
    )
    assert "too slow or too large" in Losses().fix([], "Use another.")


@pytest.fixture
def folder(tmp_path):
    """A model with two layers that cannot be rounded: one makes large numbers, and the next takes the difference of those nearly equal."""
    random = np.random.default_rng(7)
    first, second, last = (random.normal(size=(FEATURES, FEATURES)) / 2 for _ in range(3))
    rough = np.concatenate([300 + second, np.full((FEATURES, FEATURES), 300.0)], axis=1)
    fold = np.concatenate([np.eye(FEATURES), -np.eye(FEATURES)])
    weights = {"w": first, "rough_w": rough, "fold": fold, "last_w": last}
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="fine"),
        node("Tanh", ["a"], ["b"], name="bend"),
        node("MatMul", ["b", "rough_w"], ["c"], name="rough"),
        node("MatMul", ["c", "fold"], ["d"], name="folding"),
        node("Tanh", ["d"], ["e"], name="bend_again"),
        node("MatMul", ["e", "last_w"], ["f"], name="last"),
        node("Sigmoid", ["f"], ["y"], name="end"),
    ]
    written(graph_of(nodes, weights), tmp_path).rename(tmp_path / "model.onnx")
    (tmp_path / "samples").mkdir()
    for number in range(16):
        np.savez(tmp_path / "samples" / f"{number}.npz", x=random.normal(size=(1, FEATURES)).astype(np.float32))
    return tmp_path


def made(folder, bars, target=GPU, **build):
    spec = ModelSpec.parse(
        {
            "name": "m",
            "source": {"file": "model.onnx"},
            "builds": {"b": {"engine": "onnxruntime", **build}},
            "verify": {"inputs": "samples", **bars},
        }
    )
    with Runner(folder / "cache") as runner:
        return make(plan(Job(spec, "b", folder, target), BASE), runner)


INT8 = {"precision": "int8", "calibrate": {"inputs": "samples", "keep_head": False, "method": "minmax"}}


@pytest.mark.parametrize("build", [INT8, {"precision": "fp16"}], ids=["int8", "fp16"])
def test_the_layers_to_blame_are_named_and_keeping_them_does(folder, build):
    bars = {"cosine": 0.999}
    with pytest.raises(
        ParityError,
        match=r"cosine is 0\.\d+, .* Fix: Write `keep_fp32: \[(folding, rough|rough, folding)\]` in the build: with 2 of",
    ):
        made(folder, bars, **build)
    assert made(folder, bars, keep_fp32=["folding", "rough"], **build).summary.parity.cosine > 0.999


def test_a_layer_that_makes_nothing_finite_comes_first_and_is_written_down(folder):
    """FP16 ends at 65504, and its sum of such numbers at infinity: a range that no sample has shown."""

    class Model:
        layers = ("good", "mad", "odd")

        def but(self, kept):
            low = set(self.layers) - set(kept)
            answer = np.ones((1, 2), np.float32)
            made = {"good": answer * 1.5, "mad": answer * np.inf, "odd": np.ones((1, 3), np.float32)}
            found = next((made[name] for name in self.layers if low == {name}), answer)
            return SimpleNamespace(run=lambda _: {"y": found})

    found = ranked(Model(), Model.layers, [{}], 0.001, silent)
    assert found == {"mad": sys.float_info.max, "odd": sys.float_info.max, "good": 0.25}
    keep_losses(Losses(layers=found), folder)
    done = Done("losses", "key", folder, StageRecord(stage="losses"), "made", 0.0)
    assert losses_of(done).layers == found
    assert list(losses_of(done).layers) == ["mad", "odd", "good"]


def test_of_many_requests_some_are_enough_to_search_with(folder, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr("gpuserve_images.pipeline.stages.losing.stride", lambda *_: 3)
    real = Exam.parity

    def parity(self, model, sizes=(), every=1):
        found = real(self, model, sizes, every)
        asked.append(found.samples)
        return found

    monkeypatch.setattr(Exam, "parity", parity)
    with pytest.raises(ParityError, match=r"keep_fp32: \[(folding, rough|rough, folding)\]` in the build"):
        made(folder, {"cosine": 0.999}, precision="fp16")
    assert asked[0] == 16
    assert set(asked[1:-1]) == {6}
    assert asked[-1] == 16


def test_of_two_ways_the_preferred_one_is_advised(folder):
    with pytest.raises(
        ParityError,
        match=r"static INT8: cosine .*; dynamic INT8: .*Fix: Write `keep_fp32: \[(folding, rough|rough, folding)\]`",
    ):
        made(folder, {"cosine": 0.999}, Target("cpu"), **INT8)


def test_what_is_kept_already_stays_kept(folder):
    with pytest.raises(ParityError, match=r"Fix: Write `keep_fp32: \[rough, folding\]` in the build: with 1 of its 3 layers"):
        made(folder, {"cosine": 0.999}, keep_fp32=["rough"], **INT8)


@pytest.mark.parametrize(
    ("hindrance", "words"),
    [
        ("is_large", r"Fix: Build it in fp32.* the model is too slow or too large to look at each of them here\."),
        ("SwitchedRunner", r"Fix: Build it in fp32; or, if that is good enough, lower cosine in `verify:`\.$"),
    ],
)
def test_a_search_that_fails_hides_no_missed_bar(folder, monkeypatch, hindrance, words):
    def hinder(*_):
        if hindrance == "is_large":
            return True
        raise SourceError("here", "cannot be run", "Think.")

    monkeypatch.setattr(f"gpuserve_images.pipeline.stages.losing.{hindrance}", hinder)
    with pytest.raises(ParityError, match=words):
        made(folder, {"cosine": 0.999}, precision="fp16")


def test_a_build_within_its_bars_is_not_searched(folder, monkeypatch):
    monkeypatch.setattr("gpuserve_images.pipeline.stages.losing.SwitchedRunner", None)
    assert made(folder, {"cosine": 0.5}, precision="fp16").summary.parity
