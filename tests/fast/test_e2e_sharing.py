"""The cluster's tests run in one process alone, whatever xdist was asked for."""

import pytest
from e2e_sharing import SHARED_OUT, several_have_the_cluster


@pytest.mark.parametrize(
    ("worker", "several"),
    [
        ({}, False),
        ({"workercount": 1}, False),
        ({"workercount": 2}, True),
        ({"workercount": 2, SHARED_OUT: False}, True),
        ({"workercount": 2, SHARED_OUT: True}, False),
    ],
)
def test_is_known_by_what_each_process_was_told(worker, several):
    assert several_have_the_cluster(worker) is several
