"""Any ONNX, TorchScript or `torch.export` model behind TorchServe; requests and answers are those of the open inference protocol v2.

TorchServe loads this file from the model's archive. POST /predictions/<model> takes `{"inputs": [{"name", "shape", "datatype",
"data"}]}` and gives `{"outputs": [...]}`. Requests that TorchServe hands over together share one run where their shapes allow it.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, "np.ndarray[Any, Any]"]
TYPES = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
NAMES = {numpy: v2 for v2, numpy in TYPES.items()}


class Handler:
    """One worker's copy of the model; TorchServe calls `initialize` once, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Load the model that the archive's manifest names."""
        folder = Path(context.system_properties["model_dir"])
        options: Mapping[str, Any] = context.model_yaml_config
        path = folder / context.manifest["model"]["serializedFile"]
        self._inputs = [str(name) for name in options["inputs"]]
        self._outputs = [str(name) for name in options["outputs"]]
        self._batched = bool(options["batched"])
        gpu = context.system_properties.get("gpu_id")
        load = _onnx if path.suffix == ".onnx" else _torch
        self._run: Callable[[Arrays], Arrays] = load(path, self._inputs, self._outputs, options, gpu)

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[dict[str, Any]]:
        """Answer the requests of one batch; a bad one gets an error of its own."""
        answers: list[dict[str, Any]] = [{} for _ in data]
        requests: dict[int, Arrays] = {}
        for index, row in enumerate(data):
            try:
                requests[index] = self._read(row)
            except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
                answers[index] = self._refuse(context, index, 400, error)
        for group in self._groups(requests):
            for index, found in self._answers(group, requests).items():
                if isinstance(found, Exception):
                    answers[index] = self._refuse(context, index, 400, found)
                else:
                    answers[index] = {"model_name": context.model_name, "outputs": [_written(*item) for item in found.items()]}
        return answers

    def _answers(self, group: Sequence[int], requests: Mapping[int, Arrays]) -> dict[int, Arrays | Exception]:
        """Return what the model gives to each request of a group; where they fail together, each is run alone."""
        try:
            return dict(zip(group, self._together([requests[index] for index in group]), strict=True))
        except Exception as error:  # noqa: BLE001 - whatever the model refuses is the answer to these requests only
            if len(group) == 1:
                return {group[0]: error}
        return {index: found for alone in group for index, found in self._answers([alone], requests).items()}

    @staticmethod
    def _refuse(context: Any, index: int, status: int, error: Exception) -> dict[str, Any]:
        context.set_response_status(code=status, phrase="Bad request", idx=index)
        return {"error": f"{type(error).__name__}: {error}"}

    def _read(self, row: Mapping[str, Any]) -> Arrays:
        body = row.get("body") or row.get("data") or b"{}"
        request = json.loads(body) if isinstance(body, bytes | bytearray | str) else body
        tensors: Arrays = {}
        for item in request["inputs"]:
            kind = TYPES[item["datatype"]]
            tensors[item["name"]] = np.array(item["data"], dtype=kind).reshape(item["shape"])
        if self._inputs and set(tensors) != set(self._inputs):
            msg = f"inputs are {sorted(tensors)}, the model takes {sorted(self._inputs)}"
            raise ValueError(msg)
        if self._batched:
            _require_rows(tensors)
        return tensors

    def _groups(self, requests: Mapping[int, Arrays]) -> list[list[int]]:
        """Return the indices of requests that differ in the batch dimension only."""
        groups: dict[object, list[int]] = {}
        for index, arrays in requests.items():
            shapes = tuple((name, array.dtype.name, array.shape[1:]) for name, array in sorted(arrays.items()))
            groups.setdefault(shapes if self._batched else index, []).append(index)
        return list(groups.values())

    def _together(self, parts: Sequence[Arrays]) -> list[Arrays]:
        if len(parts) == 1:
            return [self._run(parts[0])]
        outputs = self._run({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        ends = np.cumsum([len(next(iter(part.values()))) for part in parts])
        if any(array.shape[:1] != (ends[-1],) for array in outputs.values()):
            msg = f"outputs {_shapes(outputs)} are no {ends[-1]} rows, one for each that was asked"
            raise ValueError(msg)
        split = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [{name: pieces[index] for name, pieces in split.items()} for index in range(len(parts))]


def _require_rows(tensors: Arrays) -> None:
    """Refuse a request whose inputs differ in their number of rows: run with others, it would shift the rows of all of them."""
    rows = {array.shape[:1] for array in tensors.values()}
    if len(rows) > 1 or () in rows:
        msg = f"the first axis of all inputs is that of the batch, and they are {_shapes(tensors)}"
        raise ValueError(msg)


def _shapes(arrays: Arrays) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in arrays.items()}


def _onnx(
    path: Path, _inputs: Sequence[str], outputs: Sequence[str], options: Mapping[str, Any], gpu: int | None
) -> Callable[[Arrays], Arrays]:
    # Before it is loaded: a model server that calls home is nobody's wish.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = int(options["intra_op"])
    session_options.inter_op_num_threads = int(options["inter_op"])
    cpu = "CPUExecutionProvider"
    providers = [cpu] if gpu is None else [("CUDAExecutionProvider", {"device_id": gpu}), cpu]
    session = onnxruntime.InferenceSession(str(path), session_options, providers=providers)
    names = list(outputs) or [output.name for output in session.get_outputs()]
    return lambda tensors: dict(zip(names, session.run(names, tensors), strict=True))


def _torch(
    path: Path, inputs: Sequence[str], outputs: Sequence[str], options: Mapping[str, Any], gpu: int | None
) -> Callable[[Arrays], Arrays]:
    import torch

    device = torch.device("cpu" if gpu is None else f"cuda:{gpu}")
    if int(options["intra_op"]):
        torch.set_num_threads(int(options["intra_op"]))
    if path.suffix == ".pt2":
        model = torch.export.load(path).module().to(device)
    else:
        model = torch.jit.load(path, map_location=device).eval()

    def run(tensors: Arrays) -> Arrays:
        with torch.inference_mode():
            # Without a signature, the request's order is the model's.
            found = model(*(torch.from_numpy(np.ascontiguousarray(tensors[name])).to(device) for name in inputs or tensors))
        return {name: array(value) for name, value in _named(found, outputs).items()}

    def array(value: Any) -> "np.ndarray[Any, Any]":
        if not isinstance(value, torch.Tensor):
            return np.asarray(value)
        # NumPy has no bfloat16.
        return (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()

    return run


def _named(found: Any, outputs: Sequence[str]) -> dict[str, Any]:
    """Return the values of a PyTorch model's answer by name, whatever they are packed in; what is None is not answered.

    Args:
        found: A tensor, or dictionaries, lists and tuples of them.
        outputs: Their names. Default: the keys that lead to each of them, such as `scores`, or `0.boxes` in a list of dictionaries;
            `output_0` and so on where there are none.
    """
    values = list(_values(found))
    if outputs:
        by_key = {".".join(map(str, path)): value for path, value in values}
        if set(outputs) <= by_key.keys():
            return {name: by_key[name] for name in outputs}
        return dict(zip(outputs, (value for _, value in values), strict=True))
    if all(isinstance(key, int) for path, _ in values for key in path):
        return {f"output_{index}": value for index, (_, value) in enumerate(values)}
    return {".".join(map(str, path)): value for path, value in values}


def _values(found: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], Any]]:
    """Yield each value with the keys and places that lead to it."""
    if isinstance(found, Mapping):
        inside = list(found.items())
    elif isinstance(found, list | tuple):
        inside = list(enumerate(found))
    else:
        if found is not None:
            yield path, found
        return
    for key, value in inside:
        yield from _values(value, (*path, key))


def _written(name: str, array: "np.ndarray[Any, Any]") -> dict[str, Any]:
    kind = "object" if array.dtype.kind in "OUS" else array.dtype.name
    values = [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]
    return {"name": name, "datatype": NAMES[kind], "shape": list(array.shape), "data": values}
