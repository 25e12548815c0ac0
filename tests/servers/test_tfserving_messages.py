"""The messages that gpuserve writes TensorFlow Serving's files with are those that its packages publish."""

import pytest
from tfserving_messages import TARGET, collected

pytestmark = pytest.mark.slow


def test_the_messages_are_those_of_the_published_packages():
    assert TARGET.read_bytes() == collected()
