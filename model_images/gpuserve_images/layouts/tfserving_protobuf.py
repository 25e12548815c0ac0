"""TensorFlow Serving's own protobuf messages, without TensorFlow.

`tfserving.descriptors` beside this file holds their descriptions as the packages `tensorflow-serving-api` and `min-tfs-client` publish
them (Apache License 2.0, the TensorFlow authors). They live in a pool of their own, so that TensorFlow may be loaded too.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from gpuserve_images.layouts.served import LayoutError

DESCRIPTORS = Path(__file__).with_name("tfserving.descriptors")


def message(name: str) -> Any:
    """Return the class of a message, such as `ModelServerConfig`."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"tensorflow.serving.{name}"))


def written(value: Any) -> str:
    """Return a message as text that was seen to be read back as the same."""
    from google.protobuf import text_format

    text = text_format.MessageToString(value, descriptor_pool=_pool())
    if parsed(value.DESCRIPTOR.name, text) != value:
        raise LayoutError(value.DESCRIPTOR.name, "is read back as something else", "Report this model.")
    return text


def parsed(name: str, text: str) -> Any:
    """Parse a configuration file as TensorFlow Serving does.

    Args:
        name: Its message, such as `MonitoringConfig`.
        text: Its content.

    Raises:
        LayoutError: When it is not accepted.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, message(name)(), descriptor_pool=_pool())
    except text_format.ParseError as error:
        raise LayoutError(name, f"is not accepted: {error}", "Correct the named line.") from error


@lru_cache(maxsize=1)
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    pool: Any = DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool
