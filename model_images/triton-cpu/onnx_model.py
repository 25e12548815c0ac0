# ruff: noqa: INP001 - Triton loads this file by its path
"""Any ONNX model behind Triton's Python backend: what Triton's own ONNX Runtime backend does, for servers built without it.

Triton loads this file as the backend `onnxruntime`, so a model repository is the same here and on NVIDIA's image: `config.pbtxt`
with `backend: "onnxruntime"`, and `<version>/model.onnx` beside it.

Parameters of `config.pbtxt` (names of Triton's own ONNX Runtime backend):
    intra_op_thread_count: Threads inside one run; 1 by default, because Triton runs several instances side by side.
    inter_op_thread_count: Threads across operators; 1 by default.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# Before it is loaded: a model server that calls home is nobody's wish.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

Arrays = dict[str, np.ndarray]


class TritonPythonModel:
    """One instance of one version of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model of the version that Triton names in `args`."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", "1"))
        options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", "1"))
        # Threads that spin while they wait take the processor from the other instances and pods.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"], args["model_version"], name)
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._ranks = {value.name: len(value.shape) for value in self._session.get_inputs()}
        self._batched = config["max_batch_size"] > 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests; those that can share one run of the model do."""
        responses: list[Any] = [None] * len(requests)
        inputs: dict[int, Arrays] = {}
        for index, request in enumerate(requests):
            try:
                inputs[index] = self._read(request)
            except ValueError as error:
                responses[index] = _refusal(error)
        for group in self._groups(inputs):
            for index, found in self._answers(group, requests, inputs).items():
                names = requests[index].requested_output_names()
                responses[index] = _refusal(found) if isinstance(found, Exception) else _response(found, names)
        return responses

    def _answers(
        self, group: Sequence[int], requests: Sequence[Any], inputs: Mapping[int, Arrays]
    ) -> dict[int, Arrays | Exception]:
        """Return what the model gives to each request of a group; where they fail together, each is run alone."""
        names = sorted({name for index in group for name in requests[index].requested_output_names()})
        try:
            return dict(zip(group, self._run(names, [inputs[index] for index in group]), strict=True))
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime refuses is the answer to these requests only
            if len(group) == 1:
                return {group[0]: error}
        return {index: found for alone in group for index, found in self._answers([alone], requests, inputs).items()}

    def _read(self, request: Any) -> Arrays:
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._ranks}
        arrays = {name: _decoded(tensor.as_numpy()) for name, tensor in tensors.items() if tensor is not None}
        # A reshape of `config.pbtxt` was made by Triton already; a scalar without a batch can have none there.
        return {name: array if self._ranks[name] else array.reshape(()) for name, array in arrays.items()}

    def _groups(self, inputs: Mapping[int, Arrays]) -> Iterable[list[int]]:
        """Yield the indices of requests that differ in the batch dimension only."""
        groups: dict[object, list[int]] = {}
        for index, arrays in inputs.items():
            shapes = tuple((name, array.shape[1:]) for name, array in sorted(arrays.items()))
            groups.setdefault(shapes if self._batched else index, []).append(index)
        return groups.values()

    def _run(self, names: list[str], parts: Sequence[Arrays]) -> list[Arrays]:
        if len(parts) == 1:
            return [dict(zip(names, self._session.run(names, parts[0]), strict=True))]
        together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        outputs = self._session.run(names, together)
        ends = np.cumsum([len(next(iter(part.values()))) for part in parts])
        if any(output.shape[:1] != (ends[-1],) for output in outputs):
            msg = f"outputs {[list(output.shape) for output in outputs]} are no {ends[-1]} rows, one for each that was asked"
            raise ValueError(msg)
        split = [np.split(output, ends[:-1]) for output in outputs]
        return [dict(zip(names, arrays, strict=True)) for arrays in zip(*split, strict=True)]


def _refusal(error: Exception) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))


def _response(arrays: Arrays, names: Iterable[str]) -> Any:
    tensors = [pb_utils.Tensor(name, _encoded(arrays[name])) for name in names]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _decoded(array: np.ndarray) -> np.ndarray:
    """Return BYTES as the text that ONNX Runtime wants for its string tensors."""
    if array.dtype != np.object_:
        return array
    texts = [value.decode() if isinstance(value, bytes) else value for value in array.ravel()]
    return np.array(texts, dtype=np.object_).reshape(array.shape)


def _encoded(array: np.ndarray) -> np.ndarray:
    """Return text as the BYTES that Triton wants; numbers as one block of memory; a scalar with the one axis of `config.pbtxt`."""
    array = np.atleast_1d(array)
    if array.dtype.kind not in "OU":
        return np.ascontiguousarray(array)
    values = [str(value).encode() for value in array.ravel()]
    return np.array(values, dtype=np.object_).reshape(array.shape)
