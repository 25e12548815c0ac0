"""scikit-learn models exported in the process of a test, which takes no start of another."""

from gpuserve_images.export.tidying import tidy
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import Signature, TensorSpec

V2 = {"float32": "FP32", "int64": "INT64", "object": "BYTES"}


def exported(model, out) -> Session:
    """Export a loaded model to a file and load that; it has the inputs and outputs that the model says."""
    model.export(out)
    inputs, outputs = (
        tuple(TensorSpec(name=port.name, dtype=V2[port.dtype], shape=port.shape) for port in group)
        for group in (model.inputs, model.outputs)
    )
    tidy(out, inputs, outputs, out.name)
    session = Session(out)
    assert session.signature.same_interface(Signature(inputs=inputs, outputs=outputs, opset=18))
    return session
