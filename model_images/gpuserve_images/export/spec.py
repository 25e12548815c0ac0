"""What may be said about how a model becomes ONNX."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from gpuserve.kubernetes.spec import Spec
from gpuserve.kubernetes.units import WHOLE

OPSET = 18
"""PyTorch's exporter writes opset 18 itself and others by a conversion that lacks operators, tf2onnx ends there, and ONNX Runtime
and TensorRT take it whole."""

TENSOR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
InputType = Literal["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL", "BYTES"]


def tensor_name(value: str) -> str:
    """Refuse a name that a server's configuration, a URL or a command line could not carry."""
    if not TENSOR_NAME.fullmatch(value):
        msg = "is not a tensor's name; use letters, digits and _ . : / - and begin with a letter or _"
        raise ValueError(msg)
    return value


TensorName = Annotated[str, AfterValidator(tensor_name)]


class InputSpec(Spec):
    """One input of the exported model.

    Attributes:
        name: Its name.
        dtype: Datatype of the open inference protocol v2. Default `FP32`.
        shape: Its dimensions with the batch axis, -1 where any size is allowed. Default: as the model file says; a PyTorch state
            dict says nothing, so there it is required.
    """

    name: TensorName
    dtype: InputType = "FP32"
    shape: tuple[Annotated[int, Field(ge=-1, strict=True), WHOLE], ...] | None = None

    @model_validator(mode="after")
    def _no_empty_axis(self) -> Self:
        if self.shape is not None and 0 in self.shape:
            msg = f"has an axis of size 0 in {list(self.shape)}; write -1 for an axis of any size"
            raise ValueError(msg)
        return self


class ExportSpec(Spec):
    """How a model of another framework becomes ONNX; every field has a default, for the file mostly knows.

    Attributes:
        opset: Version of the ONNX operator set. Default 18: all back ends write it, and TensorRT and ONNX Runtime take it whole.
        inputs: The inputs in the model's own order, TensorFlow's in the order of their names. Default: names, types and shapes of
            the file; `input` where it has no names, with one text per row for a scikit-learn model of words. A scikit-learn model
            that chooses columns by name, or has texts and numbers, takes each column that it reads as an input of shape [-1, 1].
            Where all names are the model's own, they are paired by name, in whatever order they stand.
        outputs: Names of the outputs in the same way. Default: the framework's, such as `label` and `probabilities`.
        batch: Make the first axis of every input and output the batch, of any size. Default true; false leaves the shapes as the
            model has them.
        factory: PyTorch state dict only: what makes the module, as `module:function` of an installed package or as
            `file.py:function`, relative to the folder of the model's YAML file.
        arguments: Keyword arguments of `factory`.
        signature: TensorFlow only: the signature to serve. Default `serving_default`.
    """

    opset: Annotated[int, Field(ge=17, le=21, strict=True), WHOLE] = OPSET
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[TensorName, ...] = ()
    batch: StrictBool = True
    factory: str | None = Field(default=None, pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_.]*$")
    arguments: Mapping[str, Any] = {}
    signature: str = "serving_default"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        counts = Counter([*(declared.name for declared in self.inputs), *self.outputs])
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            msg = f"names two tensors {twice[0]!r}; give every input and output a name of its own"
            raise ValueError(msg)
        for declared in self.inputs:
            if self.batch and declared.shape is not None and declared.shape[:1] != (-1,):
                shape = list(declared.shape)
                msg = f"fixes the batch axis of {declared.name!r} in {shape}; write -1 first, or `batch: false`"
                raise ValueError(msg)
        if self.arguments and self.factory is None:
            msg = "has arguments and nothing to call; add `factory:`, or remove `arguments:`"
            raise ValueError(msg)
        return self
