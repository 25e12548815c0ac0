"""A key follows from what goes in: a change alters exactly the keys that come after it."""

import dataclasses

import pytest
import yaml
from e2e_small_model import write_model_folder
from hypothesis import given
from hypothesis import strategies as st

from gpuserve_images.pipeline.chain import Chain, plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.stage import Source, Stage
from gpuserve_images.records import StageRecord
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target


def nothing(_: object) -> StageRecord:
    return StageRecord(stage="nothing")


@st.composite
def graphs(draw) -> list[Stage]:
    """Stages in an order in which each reads only earlier ones."""
    made: list[Stage] = []
    for number in range(draw(st.integers(1, 7))):
        before = draw(st.sets(st.integers(0, number - 1))) if number else set()
        roles = {f"r{index}": made[index] for index in sorted(before)}
        made.append(Stage(f"s{number}", nothing, after=roles, options={"n": number}))
    return made


CHANGES = {
    "options": lambda stage: {"options": {**stage.options, "new": 1}},
    "inputs": lambda stage: {"inputs": {"file": "0" * 64}},
    "tools": lambda stage: {"tools": {"onnx": "9"}},
    "version": lambda stage: {"version": 2},
    "name": lambda stage: {"name": f"{stage.name}-new"},
}


@given(graphs(), st.data())
def test_a_change_alters_exactly_the_keys_that_come_after_it(graph, data):
    index = data.draw(st.integers(0, len(graph) - 1))
    change = data.draw(st.sampled_from(sorted(CHANGES)))
    changed: list[Stage] = []
    touched = {index}
    for number, stage in enumerate(graph):
        roles = {role: changed[int(role[1:])] for role in stage.after}
        more = CHANGES[change](stage) if number == index else {}
        changed.append(dataclasses.replace(stage, after=roles, **more))
        touched |= {number} if touched & {int(role[1:]) for role in stage.after} else set()
    for number, (old, new) in enumerate(zip(graph, changed, strict=True)):
        assert (old.key != new.key) == (number in touched)


@given(graphs())
def test_equal_stages_have_equal_keys_and_a_chain_holds_each_once_in_order(graph):
    again = dataclasses.replace(graph[-1], run=print)
    assert again.key == graph[-1].key
    chain = list(graph[-1].chain().values())
    for position, stage in enumerate(chain):
        assert all(earlier in chain[:position] for earlier in stage.after.values())
    assert chain[-1] == graph[-1]


def test_a_role_is_part_of_a_key():
    a, b = Stage("a", nothing), Source("b", lambda _: None)
    assert Stage("c", nothing, after={"x": a, "y": b}).key != Stage("c", nothing, after={"x": b, "y": a}).key


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model_folder(tmp_path_factory.mktemp("models") / "model").parent


def chain(folder, build="fp32", target=None, **changes: object) -> Chain:
    data = yaml.safe_load((folder / "small.yaml").read_text()) | changes
    return plan(Job(ModelSpec.parse(data), build, folder, target or Target()), "registry/base:1")


def keys(chain: Chain) -> dict[str, str]:
    """Keys by stage of the preferred way."""
    return {stage.name: stage.key for stage in chain.ways[0].stages().values()}


def changed(folder, build="fp32", **changes: object) -> set[str]:
    """Names of the stages that a change of the model's YAML alters."""
    before, now = keys(chain(folder, build)), keys(chain(folder, build, **changes))
    assert before.keys() == now.keys()
    return {name for name in before if before[name] != now[name]}


INT8 = {"engine": "onnxruntime", "precision": "int8"}
VERIFY = {"inputs": "samples", "top1_agreement": 0.9}


@pytest.mark.parametrize(
    ("build", "changes", "stages"),
    [
        ("fp32", {"name": "other"}, {"layout"}),
        ("fp32", {"batch": {"max": 16, "queue_delay": "7ms"}}, {"layout"}),
        ("fp32", {"batch": {"max": 8}}, {"verify", "capacity", "layout"}),
        ("fp32", {"verify": VERIFY | {"top1_agreement": 0.8}}, set()),
        ("fp32", {"verify": VERIFY | {"batches": [1, 2]}}, {"verify", "capacity"}),
        ("fp32", {"verify": VERIFY | {"inputs": {"folder": "samples", "limit": 9}}}, {"verify", "capacity"}),
        ("fp32", {"slo": {"latency_p95": "7ms"}}, {"capacity"}),
        ("fp32", {"builds": {"fp32": {"engine": "onnxruntime", "optimise": "none"}}}, {"optimise", "verify", "capacity", "layout"}),
        ("int8", {"builds": {"int8": INT8 | {"calibrate": {"inputs": "samples", "method": "minmax"}}}},
         {"quantise", "verify", "capacity", "layout"}),
    ],
)  # fmt: skip
def test_a_late_change_leaves_the_early_stages_alone(folder, build, changes, stages):
    assert changed(folder, build, **changes) == stages


def test_a_bar_changes_the_image_but_no_stage(folder):
    before, now = chain(folder), chain(folder, verify=VERIFY | {"top1_agreement": 0.8})
    assert keys(before) == keys(now)
    assert before.key != now.key


def test_builds_share_nothing_that_differs_and_what_a_gpu_needs_differs(folder):
    cpu, gpu = chain(folder), chain(folder, target=Target("gpu"))
    assert keys(cpu)["optimise"] != keys(gpu)["optimise"]
    rtx = {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]}
    more = rtx | {"architectures": ["sm_80", "sm_89", "sm_120"]}
    two, three = (chain(folder, "rtx", builds={"rtx": build}) for build in (rtx, more))
    assert len(two.ways[0].engines) == 2
    # One architecture more: the engines of the others stay.
    assert {stage.key for stage in two.ways[0].engines.values()} < {stage.key for stage in three.ways[0].engines.values()}
    assert two.key != three.key
