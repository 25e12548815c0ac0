"""ONNX Runtime sessions on the CPU, with errors that say what to do."""

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from gpuserve_images.errors import SourceError, shortened
from gpuserve_images.onnx_model.signature import Signature, read_signature
from gpuserve_images.samples.codec import Tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, ValueInfoProto

HARMFUL = ("WeightBiasQuantization",)
"""Optimisers that are left out of a graph that is saved: this one makes the bias of a layer that is quantised already INT32, which TensorRT's
DequantizeLinear does not take."""

QUIET = 4
"""ONNX Runtime's severity for what ends the process: an error is raised too, and said once; warnings are about choices made on purpose."""


def quiet_options() -> Any:
    """Return options of a session that writes nothing of its own to the terminal."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    return options


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises of its own; they have no ancestor but `Exception`."""
    module: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return tuple(value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Exception))


def inner_values(model: "ModelProto", names: "Sequence[str]") -> "list[ValueInfoProto]":
    """Return the types of inner tensors as ONNX Runtime finds them, and shapes where it has some; none of a model that it cannot load.

    Args:
        model: The model, its weights loaded.
        names: The tensors; those that are no tensors, such as sequences, are left out.
    """
    import onnxruntime
    from onnx import ModelProto, TensorProto, ValueInfoProto, helper

    asked = ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except runtime_errors():
        return []
    types = {f"tensor({name.lower()})": number for name, number in TensorProto.DataType.items()}
    return [
        # It gives no axes for a tensor whose axes it does not know, too.
        helper.make_tensor_value_info(output.name, types[output.type], output.shape or None)
        for output in session.get_outputs()
        if output.name in names and output.type in types
    ]


_LACKING = ("NOT_IMPLEMENTED", "is not a registered function/op")
"""What ONNX Runtime says of operators, or of types of theirs, that it lacks."""


def _fix(finding: str) -> str:
    """Return what to do about a model that ONNX Runtime does not load."""
    if any(words in finding for words in _LACKING):
        return "Export the model with operators that ONNX Runtime has, in types that it has them for."
    return "Correct what it names, in the model or on this machine, or export the model again."


class Runner(Protocol):
    """A loaded model, in whatever framework, that can be asked."""

    @property
    def signature(self) -> Signature:
        """Its inputs and outputs."""
        ...

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        ...

    def run(self, inputs: "Mapping[str, NDArray[Any]]", /) -> Tensors:
        """Return the outputs by name."""
        ...


class Session:
    """A model loaded into ONNX Runtime on the CPU."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        optimise: str | None = None,
        save_to: Path | None = None,
        fold_limit: int | None = None,
    ) -> None:
        """Load a model.

        Args:
            path: The ONNX file.
            threads: Threads per operator. Default: one per core.
            optimise: Name of a `GraphOptimizationLevel`, such as `ORT_ENABLE_BASIC`. Default: ONNX Runtime's (all).
            save_to: Where to write the optimised graph; its weights go to `<name>.data` beside it. Default: nowhere.
            fold_limit: Bytes of the largest constant that may be folded. Default: ONNX Runtime's, 1 GiB.

        Raises:
            SourceError: When ONNX Runtime cannot run the model.
        """
        import onnxruntime

        options = quiet_options()
        options.intra_op_num_threads = threads
        if optimise is not None:
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, optimise)
        if fold_limit is not None:
            options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(fold_limit))
        if save_to is not None:
            options.optimized_model_filepath = str(save_to)
            # Beside it: within one protobuf message weights end at 2 GiB.
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{save_to.name}.data")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(HARMFUL) if save_to is not None else None,
            )
        except Exception as error:
            reason = f"cannot be run by ONNX Runtime: {' '.join(str(error).split())}"
            raise SourceError(str(path), reason, _fix(str(error))) from error
        self._path = path
        self.outputs = [output.name for output in self._session.get_outputs()]

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the file."""
        return read_signature(self._path)

    def run(self, inputs: "Mapping[str, NDArray[Any]]", /) -> Tensors:
        """Return the outputs by name.

        Raises:
            SourceError: When the model fails on these inputs.
        """
        try:
            arrays = cast("list[NDArray[Any]]", self._session.run(None, dict(inputs)))
        except Exception as error:
            given = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
            reason = f"fails in ONNX Runtime on inputs {given}: {shortened(_innermost(error))}"
            fix = "Correct the sample; of generated inputs, set `verify.generate.shapes` and `verify.generate.ranges` to what the model takes."
            raise SourceError(str(self._path), reason, fix) from error
        return dict(zip(self.outputs, arrays, strict=True))


_AT_NODE = re.compile(r".*while running (\S+) node\. Name:'(.*?)' Status Message: (.*)", re.DOTALL)


def _innermost(error: Exception) -> str:
    """Return what went wrong at which node; ONNX Runtime says it once more for each branch and loop that the node is in."""
    found = _AT_NODE.match(str(error))
    return f"{found[1]} (node {found[2]!r}): {found[3]}" if found else str(error)
