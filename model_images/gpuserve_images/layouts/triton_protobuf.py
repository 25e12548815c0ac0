"""Triton's own protobuf: its messages, and its words for types and shapes."""

from typing import Any

from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.onnx_model.signature import TensorSpec


def written(config: Any) -> str:
    """Return a config as text that Triton's protobuf was seen to read back."""
    from google.protobuf import text_format

    text = text_format.MessageToString(config)
    parse_config(text)
    return text


def parse_config(text: str) -> Any:
    """Parse a `config.pbtxt` as Triton does.

    Raises:
        LayoutError: When Triton's protobuf does not accept it.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, protobuf().ModelConfig())
    except text_format.ParseError as error:
        raise LayoutError("config.pbtxt", f"is not accepted: {error}", "Correct the named line.") from error


def protobuf() -> Any:
    """Return the module of Triton's own protobuf messages."""
    from tritonclient.grpc import model_config_pb2

    return model_config_pb2


def data_type(dtype: str) -> int:
    """Return the number that Triton's protobuf has for a type of the open inference protocol."""
    return protobuf().DataType.Value("TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}")


def dims(tensor: TensorSpec, *, batched: bool) -> tuple[int, ...]:
    """Return dimensions as clients see them: without the batch axis, and never none at all, which Triton does not allow."""
    return (tensor.shape[1:] if batched else tensor.shape) or (1,)
