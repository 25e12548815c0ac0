"""ONNX Runtime's packages call home when they are loaded, and keep an id of the machine: not from here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuserve_images.layouts.inside import torchserve_handler

ROOT = Path(__file__).parents[3]
BACKEND = ROOT / "model_images" / "triton-cpu" / "onnx_model.py"
WAYS = {
    "session": "from gpuserve_images.onnx_model import session; session.runtime_errors()",
    "command": "import gpuserve.cli.main, gpuserve_images; import onnxruntime",
    "export": "import gpuserve_images.export.backends.model; import onnxruntime",
    "triton": f"import sys, types; sys.modules['triton_python_backend_utils'] = types.ModuleType('utils'); "
    f"exec(compile(open({str(BACKEND)!r}).read(), 'model.py', 'exec'), {{'__name__': 'model'}})",
    "torchserve": f"exec(open({torchserve_handler.__file__!r}).read(), handler := {{'__name__': 'handler'}})\n"
    "try: handler['_onnx'](None, [], [], {'intra_op': 1, 'inter_op': 1}, None)\nexcept Exception as error: print(error)",
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept_to_report_with(tmp_path, way):
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    program = f"{WAYS[way]}\nimport sys\nassert 'onnxruntime' in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("deviceid")] == []
