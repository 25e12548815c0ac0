"""The messages of TensorFlow Serving's configuration files, taken from the packages that publish them.

`python tests/servers/tfserving_messages.py` writes them to where the layout reads them; a test compares the two.
"""

import ast
from pathlib import Path

from environments import HERE, packages
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

TARGET = Path(__file__).parents[2] / "model_images/gpuserve_images/layouts/tfserving.descriptors"
WANTED = (
    "tensorflow_serving/config/model_server_config.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/platform_config.proto",
    "tensorflow_serving/servables/tensorflow/saved_model_bundle_source_adapter.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
)


def collected() -> bytes:
    """Return a FileDescriptorSet of the wanted files and all that they import, each before those that need it."""
    # The authors' own package wins where both have a file.
    folders = [packages(HERE / f"requirements-tfserving-{name}.lock") for name in ("api", "protos")]
    known = {module.DESCRIPTOR.name: _plain(module.DESCRIPTOR.serialized_pb) for module in (any_pb2, wrappers_pb2)}
    ordered: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name in ordered:
            return
        file = known.get(name) or _published(name, folders)
        for needed in file.dependency:
            add(needed)
        ordered[name] = file

    for name in WANTED:
        add(name)
    return FileDescriptorSet(file=ordered.values()).SerializeToString(deterministic=True)


def _published(name: str, folders: list[Path]) -> FileDescriptorProto:
    module = name.removesuffix(".proto") + "_pb2.py"
    path = next(folder / module for folder in folders if (folder / module).is_file())
    for node in ast.walk(ast.parse(path.read_text())):
        # Generated code of any age holds its file as one literal of bytes, or of Latin-1 text.
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, bytes | str)
            and name in _text(node.value)[: len(name) + 4]
        ):
            content = node.value if isinstance(node.value, bytes) else node.value.encode("latin1")
            if len(content) > len(name):
                return _plain(content)
    raise AssertionError(f"{path} holds no description of {name}")


def _text(value: bytes | str) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _plain(content: bytes) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(content)


if __name__ == "__main__":
    TARGET.write_bytes(collected())
