"""What a preview imports before it can ask its first question, and a command before it reads its arguments: users wait for that each time."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAVY = ("cryptography", "numpy", "onnx", "onnxruntime", "requests", "tritonclient", "kubernetes", "grafana_foundation_sdk")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("gpuserve", ("pulumi", "pydantic", *HEAVY)),
        ("gpuserve.platform.component", HEAVY),  # the program, before it has read its model
        ("gpuserve_images.resource", HEAVY),  # the same, of a program without Platform
        ("gpuserve_images.image_provider", ("pydantic", *HEAVY)),
        ("gpuserve_images.pipeline.key", HEAVY),
        ("gpuserve_images.pipeline.published", ("cryptography", "numpy", "onnx", "onnxruntime")),
        ("gpuserve_images.pipeline.chain", ("cryptography", "onnx", "onnxruntime", "requests")),
        ("gpuserve.cli.main", ("pulumi", *HEAVY)),  # every command; what one of them needs is imported in its function
        ("gpuserve.cli.inspection", ("pulumi", *HEAVY)),  # a stack, its plan and its manifests
    ],
)
def test_nobody_waits_for_what_is_not_needed_yet(module: str, heavy: tuple[str, ...]):
    program = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    # In isolation, for this process has imported everything.
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_an_unchanged_image_is_answered_with_nothing_more_than_the_provider():
    props = {
        "key": "0",
        "registry": "r",
        "measured": True,
        "model": {"slo": {"latency_p95": "1ms"}, "bake": {"sign": {"key": "k"}}},
    }
    program = (
        f"import sys; from gpuserve_images.image_provider import ImageProvider; ImageProvider().check({props!r}, {props!r});"
        f"print([name for name in {('pydantic', *HEAVY)!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
