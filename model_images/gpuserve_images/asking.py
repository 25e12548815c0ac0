"""How clients ask a model: from a file to a request and from an answer to words, of the model itself or of its ensemble."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuserve.kubernetes.errors import GpuserveError
from gpuserve_images.layouts.steps import answering, takers
from gpuserve_images.layouts.wiring import wired_signature
from gpuserve_images.onnx_model.signature import DYNAMIC, Signature, TensorSpec, read_signature
from gpuserve_images.samples.codec import TEXTS, Codec, CodecError, Tensors, as_declared, load_codec
from gpuserve_images.samples.picking import pick
from gpuserve_images.sources.resolving import at_hand
from gpuserve_images.spec import ModelSpec, load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Asking:
    """A model as its clients see it.

    Attributes:
        model: The model.
        folder: Folder of its YAML file, where those of the other models of its ensemble are too.
    """

    model: ModelSpec
    folder: Path

    @cached_property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models that answer together, by name.

        Raises:
            SpecError: When the YAML file of one is missing or wrong.
        """
        ensemble = self.model.layout.ensemble
        if ensemble is None:
            return {self.model.name: self.model}
        names = dict.fromkeys(step.model for step in ensemble.steps)
        return {name: self.model if name == self.model.name else load_model(self.folder / f"{name}.yaml") for name in names}

    def encoded(self, file: Path) -> Tensors:
        """Return the request about a file: what the codecs of the models that take it make of it.

        Where the model files are on this machine, it is compared with what they take, and has the axes that a server declares.

        Raises:
            ValueError: When the file is none that the models take.
            CodecError: When a codec fails, or does not make what is asked for.
        """
        tensors, signature = self._made(file), self.signature()
        return tensors if signature is None else _fitted(tensors, signature, str(file))

    def _made(self, file: Path) -> Tensors:
        ensemble = self.model.layout.ensemble
        if ensemble is None:
            return self._codec(self.model.name).encoded(file)
        taken = takers(ensemble)
        made = {model: self._codec(model).encoded(file) for model in dict.fromkeys(model for model, _ in taken.values())}
        return {name: _taken(file, made[model], model, own, name) for name, (model, own) in taken.items()}

    def decoded(self, outputs: "Mapping[str, NDArray[Any]]") -> str:
        """Return an answer in words: its own model's, where the ensemble answers what that does, else another's; without any the numbers.

        Raises:
            CodecError: When the codec fails.
        """
        ensemble = self.model.layout.ensemble
        if ensemble is None:
            return self._codec(self.model.name).decoded(outputs)
        step = answering(ensemble, self.model.name)
        codec = self._codec(step.model) if step else None
        if step is None or codec is None or codec.origin is None:
            return load_codec(None, self.folder).decoded(outputs)
        return codec.decoded({own: outputs[name] for own, name in step.outputs.items()})

    def signature(self) -> Signature | None:
        """Return the inputs and outputs as Triton declares them; None where that would take a download or a framework.

        Raises:
            LayoutError: When the steps of the ensemble do not fit together.
        """
        found: dict[str, Signature] = {}
        for name, model in self.models.items():
            files = at_hand(model.source, self.folder)
            if files is None or files.format != "onnx":
                return None
            found[name] = model.batch.seen(read_signature(files.entry))
        ensemble = self.model.layout.ensemble
        if ensemble is None:
            return _served(found[self.model.name])
        alone = not all(signature.batched for signature in found.values())
        return _served(wired_signature(ensemble, found).model_copy(update={"alone": alone}))

    def example(self) -> Signature | None:
        """Return `signature()` with the sizes of a request that is known to fit, as far as one is known for an axis that is free.

        They are those of `verify.generate.shapes`, of a profile's `opt`, or of the first sample; a batch is 1.
        """
        signature = self.signature()
        if signature is None:
            return None
        bare = 1 if signature.batched else 0
        free = [tensor for tensor in signature.inputs if DYNAMIC in tensor.shape[bare:]]
        declared = {tensor.name: self._declared(tensor, batched=signature.batched) for tensor in free}
        sample = {} if all(declared.values()) else self._sample()
        shapes = {name: shape or sample.get(name) for name, shape in declared.items()}
        inputs = (tensor.model_copy(update={"shape": shapes.get(tensor.name) or tensor.shape}) for tensor in signature.inputs)
        return signature.model_copy(update={"inputs": tuple(inputs)})

    def _declared(self, tensor: TensorSpec, *, batched: bool) -> tuple[int, ...] | None:
        """Return the shape of an input that the YAML of the model that takes it says, if it does."""
        ensemble = self.model.layout.ensemble
        name, own = takers(ensemble)[tensor.name] if ensemble else (self.model.name, tensor.name)
        model = self.models[name]
        said = [build.profiles[own].opt for build in model.builds.values() if own in build.profiles]
        generate = model.verify.generate
        if generate is not None and own in generate.shapes:
            said.insert(0, (1, *generate.shapes[own]) if batched else generate.shapes[own])
        ones = (tuple(1 if size == DYNAMIC else size for size in shape) for shape in said)
        return next((shape for shape in ones if len(shape) == len(tensor.shape)), None)

    def _sample(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the first sample; nothing where there is none that fits, which a build will say."""
        with suppress(GpuserveError, ValueError):
            for file in pick(self.model.verify.inputs or (), self.folder, "verify.inputs")[:1]:
                return {name: array.shape for name, array in self.encoded(file).items()}
        return {}

    def _codec(self, model: str) -> Codec:
        return load_codec(self.models[model].io, self.folder)


def _served(signature: Signature) -> Signature:
    """Return a signature as Triton has it: no tensor is without an axis of its own, behind that of the batch where there is one."""
    bare = 1 if signature.batched else 0

    def served(tensor: TensorSpec) -> TensorSpec:
        return tensor.model_copy(update={"shape": (*tensor.shape, 1)}) if len(tensor.shape) == bare else tensor

    sides = {"inputs": signature.inputs, "outputs": signature.outputs}
    return signature.model_copy(update={side: tuple(map(served, tensors)) for side, tensors in sides.items()})


def _fitted(tensors: Tensors, signature: Signature, where: str) -> Tensors:
    """Return a request with the axes that the server declares.

    Raises:
        CodecError: When it has other inputs than the model, or of another type or shape.
    """
    wanted = {tensor.name: tensor for tensor in signature.inputs}
    if tensors.keys() != wanted.keys():
        fix = f"Give exactly {sorted(wanted)}."
        raise CodecError(where, "gives other inputs than the model takes", fix, value=str(sorted(tensors)))
    found: Tensors = {}
    for name, array in tensors.items():
        tensor = wanted[name]
        found[name] = as_declared(array, tensor.shape)
        shape = found[name].shape
        fits = len(shape) == len(tensor.shape) and all(
            want in (DYNAMIC, got) for want, got in zip(tensor.shape, shape, strict=True)
        )
        typed = array.dtype.kind in TEXTS if tensor.dtype == "BYTES" else array.dtype == tensor.numpy_dtype
        if not fits or not typed:
            fix = f"The model takes {tensor.dtype} of shape {list(tensor.shape)}."
            value = f"{array.dtype} {list(array.shape)}"
            raise CodecError(f"{where}: {name}", "has another type or shape than the model takes", fix, value=value)
    return found


def _taken(file: Path, made: Tensors, model: str, own: str, name: str) -> "NDArray[Any]":
    """Return a tensor of a request to an ensemble, by the name that its model has for it; an archive may have the ensemble's."""
    found = made.get(own, made.get(name))
    if found is None:
        fix = f"Return it from encode() of model {model}; an archive may hold it as {name!r} too."
        raise CodecError(str(file), f"gives no input {own!r} of model {model}", fix, value=str(sorted(made)))
    return found
