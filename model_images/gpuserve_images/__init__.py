"""From a model file to a verified, reproducible OCI image: the stages behind `ModelImage`.

ONNX Runtime's packages report to Microsoft unless they are told not to before they are loaded, with a lasting id of the machine
(https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md). Here, and in the programs that are started from here, they do not;
who wants them to sets the variable to 0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
