"""TensorFlow Serving's layout: its messages are those of its packages, TensorFlow reads the files and loads the models from it."""

import json
import os
import subprocess

import pytest
from environments import HERE, environment, packages, run, unpacked
from tfserving_messages import TARGET, collected

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec

pytestmark = pytest.mark.slow
SAVE = """
import sys
import tensorflow as tf

class Double(tf.Module):
    def __init__(self):
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def served(self, x):
        return {"y": x * self.factor}

model = Double()
tf.saved_model.save(model, sys.argv[1], signatures={"serving_default": model.served})
"""
READ = """
import json
import sys
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2, platform_config_pb2

root = Path(sys.argv[1])
config = text_format.Parse((root / "models/models.config").read_text(), model_server_config_pb2.ModelServerConfig())
(model,) = config.model_config_list.config
version = max(Path(sys.argv[1] + model.base_path).iterdir())
answer = tf.saved_model.load(version).signatures["serving_default"](x=tf.constant([[1.0, 2.0, 3.0]]))
print(json.dumps({
    "name": model.name, "version": version.name, "latest": model.model_version_policy.latest.num_versions,
    "platform": model.model_platform, "y": answer["y"].numpy().tolist(),
}))
"""


def test_the_messages_are_those_of_the_published_packages():
    assert TARGET.read_bytes() == collected()


def test_tensorflow_loads_the_model_that_the_configuration_names(tmp_path):
    python = str(environment("tensorflow"))
    run(python, "-c", SAVE, str(tmp_path / "saved"))
    wishes = Wishes(BatchSpec(max=8), LayoutSpec.parse({"versions": {"latest": 2}, "threads": {"intra_op": 1}}))
    files, _ = lay_out("tfserving", ServedModel.of("double", "tensorflow", tmp_path / "saved"), wishes)
    image = unpacked(files, tmp_path / "image")
    environ = {**os.environ, "PYTHONPATH": str(packages(HERE / "requirements-tfserving-api.lock"))}
    done = subprocess.run([python, "-c", READ, str(image)], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {"name": "double", "version": "1", "latest": 2, "platform": "tensorflow", "y": [[2.0, 4.0, 6.0]]}
