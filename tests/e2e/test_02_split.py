"""Requests are split 80/20 and a tenth is mirrored, counted by the servers themselves."""

import pytest
from e2e_cluster import VERSIONS, Cluster, wait_for
from e2e_stack import Stack
from e2e_traffic import binomial_interval, infer, random_inputs

pytestmark = pytest.mark.e2e

REQUESTS = 600
ALPHA = 1e-6
SHARE, MIRRORED = 0.8, 0.1


def test_the_bound_is_the_binomial_one():
    low, high = binomial_interval(600, 0.8, 1e-6)
    assert (low, high) == pytest.approx((430, 526), abs=4)
    assert binomial_interval(10, 0.5, 0.05) == (2, 8)


def test_split_and_mirror_arrive_in_their_shares(stack: Stack, quiet: Cluster):
    before = {version: quiet.successes(version) for version in VERSIONS}
    inputs = random_inputs(1, seed=7)
    for _ in range(REQUESTS):
        infer(stack.url, inputs)
    answered = dict.fromkeys(VERSIONS, 0)

    def all_copies_are_done() -> bool:
        nonlocal answered
        now = {version: quiet.successes(version) - before[version] for version in VERSIONS}
        still, answered = now == answered, now
        return still and sum(now.values()) >= REQUESTS

    wait_for("the mirrored copies", all_copies_are_done, seconds=30, every=1)
    low, high = binomial_interval(REQUESTS, SHARE, ALPHA)
    assert low <= answered["fp32"] <= high
    # Every request was answered once; what was counted beyond that are the copies, and they went to int8.
    copies = sum(answered.values()) - REQUESTS
    low, high = binomial_interval(REQUESTS, MIRRORED, ALPHA)
    assert low <= copies <= high
    low, high = binomial_interval(REQUESTS, 1 - SHARE, ALPHA)
    assert low <= answered["int8"] - copies <= high
