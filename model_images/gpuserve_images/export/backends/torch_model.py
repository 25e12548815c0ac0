"""PyTorch: an ExportedProgram (`.pt2`), or a state dict with the code that makes its module."""

import importlib
import inspect
import io
import logging
import re
import runpy
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuserve_images.export.backends import torch_weights
from gpuserve_images.export.backends.model import FREE, Arrays, FailureError, Port, WishedInput, Wishes, one_line

torch: Any = importlib.import_module("torch")
pytree: Any = importlib.import_module("torch.utils._pytree")

NATIVE_OPSET = 18
"""PyTorch's exporter writes this one itself; a lower one it only claims to."""
INLINE_BYTES = 1_500_000_000
"""More weights than this lie beside the ONNX file: protobuf ends at 2 GiB."""
EXAMPLE_BATCH = 2
"""`torch.export` takes a size of 0 or 1 for a constant."""
UNKNOWN_OPERATOR = re.compile(r"OpOverload\(op='([^']+)'")
UNKNOWN_TYPE = re.compile(r"Deserializing (\S+) in pytree")
"""PyTorch writes this to its log, and raises another error."""
OF_TRANSFORMERS = "transformers.modeling_outputs"
FAILED_NODE = re.compile(r"translating node %(\w+)")
NUMPY_TYPES = {
    "torch.float16": "float16",
    "torch.float32": "float32",
    "torch.float64": "float64",
    "torch.int8": "int8",
    "torch.int16": "int16",
    "torch.int32": "int32",
    "torch.int64": "int64",
    "torch.uint8": "uint8",
    "torch.bool": "bool",
}


class TorchModel:
    """A program with its weights."""

    def __init__(self, program: Any, wishes: Wishes, notes: Sequence[str]) -> None:
        """Read the program's signature."""
        self._program = program
        self._wishes = wishes
        nodes = {node.name: node for node in program.graph.nodes}
        self._flat = list(program.graph_signature.user_inputs)
        self._tensors = [name for name in self._flat if isinstance(name, str) and _is_tensor(nodes.get(name))]
        self.inputs = wishes.renamed([_port(name, nodes[name].meta["val"]) for name in self._tensors])
        results = list(program.graph_signature.user_outputs)
        if not all(isinstance(name, str) and _is_tensor(nodes.get(name)) for name in results):
            reason = "gives something else than tensors"
            raise FailureError(reason, "Return tensors, or a dictionary of them.", value=", ".join(map(str, results)))
        names = wishes.output_names(_output_names(program, len(results)))
        self.outputs = [_port(name, nodes[result].meta["val"]) for name, result in zip(names, results, strict=True)]
        self.notes = list(notes)
        self._module = program.module()

    def export(self, out: Path) -> None:
        """Convert with PyTorch's own exporter."""
        if self._wishes.opset < NATIVE_OPSET:
            reason = f"is exported to opset {NATIVE_OPSET} or later: PyTorch's exporter has no lower one"
            raise FailureError(reason, f"Write opset: {NATIVE_OPSET}.", value=f"export.opset {self._wishes.opset}")
        try:
            exported = torch.onnx.export(
                self._program, dynamo=True, opset_version=self._wishes.opset, external_data=True, verbose=False
            )
        except Exception as error:
            raise _refusal(error) from error
        weights = sum(value.numel() * value.element_size() for value in self._program.state_dict.values())
        exported.save(out, external_data=weights > INLINE_BYTES)

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Ask PyTorch."""
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(inputs[port.name]))
            for name, port in zip(self._tensors, self.inputs, strict=True)
        }
        flat = [tensors.get(name, name) if isinstance(name, str) else name for name in self._flat]  # else a constant
        arguments, named = pytree.tree_unflatten(flat, self._program.call_spec.in_spec)
        with torch.no_grad():
            results = pytree.tree_leaves(self._module(*arguments, **named))
        return [result.numpy() for result in results]


def load(path: Path, wishes: Wishes) -> TorchModel:
    """Read the file.

    Raises:
        FailureError: When it is neither form, its code is not named, or its weights do not fit its code.
    """
    torch_weights.refuse_script(path)
    if path.suffix in torch_weights.ENDINGS:
        program = _from_state(path, wishes)
        notes = [f"weights in the module that {Path(wishes.factory or '').name} makes"]
    elif path.suffix == ".pt2":
        program, notes = _read(path), []
    else:
        reason = f"is neither an ExportedProgram (.pt2) nor a state dict ({', '.join(torch_weights.ENDINGS)})"
        raise FailureError(reason, f"Save one: {torch_weights.PROGRAM}.", value=path.suffix or path.name)
    return TorchModel(program, wishes, notes)


def _read(path: Path) -> Any:
    """Load a program; the types that models of Hugging Face give are known to their own package only."""
    log = io.StringIO()
    listener = logging.StreamHandler(log)
    logger = logging.getLogger("torch.export")
    logger.addHandler(listener)
    try:
        return torch.export.load(path)
    except Exception as error:
        unknown = UNKNOWN_TYPE.search(f"{log.getvalue()} {error}")
        if unknown is not None:
            if unknown[1].startswith(f"{OF_TRANSFORMERS}.") and _imported(OF_TRANSFORMERS):
                return _read(path)
            reason = "takes or gives a type that only its own package knows"
            fix = "Export a module that takes tensors and returns a dictionary of them, such as {'logits': outputs.logits}"
            fix += ", or install transformers beside PyTorch." if unknown[1].startswith("transformers.") else "."
            raise FailureError(reason, fix, value=unknown[1]) from error
        reason = f"is no ExportedProgram that PyTorch {torch.__version__} can read: {one_line(error)}"
        raise FailureError(reason, f"Save it again: {torch_weights.PROGRAM}.") from error
    finally:
        logger.removeHandler(listener)


def _imported(module: str) -> bool:
    """Import a module that is not imported yet; returns whether that was done."""
    if module in sys.modules:
        return False
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _from_state(path: Path, wishes: Wishes) -> Any:
    state = torch_weights.read(path)
    if wishes.factory is None:
        reason = "holds weights and not the code that they belong to"
        raise FailureError(reason, "Declare `export: {factory: file.py:function}`, or save an ExportedProgram (.pt2).")
    if not wishes.inputs or any(wish.shape is None for wish in wishes.inputs):
        reason = "does not say what it takes"
        raise FailureError(reason, "Declare `export: {inputs: [{name: ..., shape: [-1, ...]}]}`, all with shapes.")
    module = _made(wishes)
    try:
        module.load_state_dict(state, strict=True)
    except Exception as error:
        reason = f"does not fit the module that {wishes.factory} makes: {one_line(error)}"
        raise FailureError(reason, "Name the factory and the arguments that these weights were trained with.") from error
    wished = wishes.inputs_of(list(inspect.signature(module.forward).parameters)[: len(wishes.inputs)])
    examples = tuple(_example(wish) for wish in wished)
    free = tuple(_free_axes(wish) for wish in wished)
    try:
        return torch.export.export(module.eval(), examples, dynamic_shapes=free)
    except Exception as error:
        reason = f"cannot be traced by torch.export: {one_line(error)}"
        raise FailureError(reason, "Change the module as torch.export says, or fix the axis in export.inputs.") from error


def _made(wishes: Wishes) -> Any:
    origin, _, name = (wishes.factory or "").rpartition(":")
    try:
        found: Any = runpy.run_path(origin) if origin.endswith(".py") else importlib.import_module(origin)
        factory = found[name] if isinstance(found, Mapping) else getattr(found, name)
        return factory(**wishes.arguments)
    except Exception as error:
        reason = f"the factory {wishes.factory} fails: {type(error).__name__}: {one_line(error)}"
        raise FailureError(reason, "Correct it, or install what it imports.") from error


def _example(wish: WishedInput) -> Any:
    """Return numbers of the declared shape; ones, because a zero may be an index that is padding or a divisor."""
    sizes = [EXAMPLE_BATCH + axis if size == FREE else size for axis, size in enumerate(wish.shape or ())]
    return torch.ones(sizes, dtype=getattr(torch, wish.dtype))


def _free_axes(wish: WishedInput) -> dict[int, Any]:
    """Name the batch of all inputs alike, and leave other free axes to be found out."""
    axes = {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(wish.shape or ()) if size == FREE}
    return {**axes, **({0: torch.export.Dim("batch")} if 0 in axes else {})}


def _is_tensor(node: Any) -> bool:
    return node is not None and isinstance(node.meta.get("val"), torch.Tensor)


def _port(name: str, value: Any) -> Port:
    kind = str(value.dtype)
    if kind not in NUMPY_TYPES:
        raise FailureError("has a tensor of a type that servers cannot carry", "Cast it in the model.", value=f"{name}: {kind}")
    return Port(name, NUMPY_TYPES[kind], tuple(size if isinstance(size, int) else FREE for size in value.shape))


def _output_names(program: Any, count: int) -> list[str]:
    """Return the keys of a dictionary that the model gives, such as Hugging Face's, else `output`, numbered when there are several."""
    kind = program.call_spec.out_spec
    mapping = isinstance(kind.type, type) and issubclass(kind.type, dict) and kind.type is not defaultdict
    keys = list(kind.context) if mapping else []
    if len(keys) == count and all(isinstance(key, str) for key in keys):
        return keys
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def _refusal(error: Exception) -> FailureError:
    """Name the operator, which the innermost error tells, and the node, which one further out tells."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        texts.insert(0, " ".join(str(cause).split()))
        cause = cause.__cause__
    told = " ".join(texts)
    operator, node = UNKNOWN_OPERATOR.search(told), FAILED_NODE.search(told)
    if operator is not None:
        fix = "Compute it from operators that ONNX has, or leave it out of the served model."
        value = operator[1] + (f", node {node[1]}" if node else "")
        return FailureError("uses an operator that ONNX has no form of", fix, value=value)
    reason = f"is not exported by PyTorch: {texts[0][:500]}"
    return FailureError(reason, "Change the module, or export it to ONNX yourself.")
