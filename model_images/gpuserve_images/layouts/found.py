"""What ONNX Runtime finds the outputs of a model to be, where its file says less."""

from dataclasses import replace

from gpuserve_images.layouts.served import ServedModel
from gpuserve_images.onnx_model.session import QUIET
from gpuserve_images.onnx_model.signature import DYNAMIC, TensorSpec


def with_found_outputs(model: ServedModel) -> ServedModel:
    """Return an ONNX model with the shapes of its outputs as ONNX Runtime reports them for its newest version.

    ONNX Runtime infers more than a file declares, and an optimised file declares more than its source. Triton's ONNX Runtime backend
    loads no model whose configuration differs from what it is told then, by so much as a free axis (`CompareDimsSupported` in
    https://github.com/triton-inference-server/onnxruntime_backend, `src/onnxruntime_utils.cc`). Names, types and inputs stay as they are.
    """
    signature = model.signature
    if signature is None:
        return model
    found = _found(model)
    outputs = tuple(_shaped(tensor, found.get(tensor.name, ())) for tensor in signature.outputs)
    return replace(model, signature=signature.model_copy(update={"outputs": outputs}))


def _found(model: ServedModel) -> dict[str, tuple[int, ...]]:
    """Return the shapes of outputs by name; none where ONNX Runtime cannot load the model here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    try:
        session = onnxruntime.InferenceSession(str(model.newest.path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - its errors have no common class; a model for GPUs only may still be served as it is
        return {}
    return {
        output.name: tuple(size if isinstance(size, int) and size > 0 else DYNAMIC for size in output.shape)
        for output in session.get_outputs()
    }


def _shaped(tensor: TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    # An unknown shape is reported as an empty one: what the file's source says is more then.
    return tensor.model_copy(update={"shape": shape}) if shape else tensor
