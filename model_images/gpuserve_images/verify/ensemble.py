"""An ensemble in this process: its models, each run when its tensors are there, as a server runs them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.layouts.steps import as_request, in_order, takers
from gpuserve_images.layouts.wiring import wired_signature
from gpuserve_images.onnx_model.session import Runner, Session
from gpuserve_images.samples.codec import Tensors
from gpuserve_images.verify.in_process import InProcess
from gpuserve_images.verify.inputs import Requests

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EnsembleRunner:
    """The models of an ensemble, loaded, that answer as one."""

    def __init__(self, spec: EnsembleSpec, models: Mapping[str, Runner]) -> None:
        """Take the models by name.

        Raises:
            LayoutError: When the steps do not fit together.
        """
        self.signature = wired_signature(spec, {name: model.signature for name, model in models.items()})
        self.outputs = list(spec.outputs)
        self._steps = in_order(spec)
        self._models = models

    def run(self, inputs: "Mapping[str, NDArray[Any]]", /) -> Tensors:
        """Return the outputs by name.

        Raises:
            SourceError: When a model fails on what it is given.
        """
        tensors = dict(inputs)
        for step in self._steps:
            answer = self._models[step.model].run({own: tensors[name] for own, name in step.inputs.items()})
            tensors |= {name: answer[own] for own, name in step.outputs.items()}
        return {name: tensors[name] for name in self.outputs}


def asked_models(spec: EnsembleSpec) -> tuple[str, ...]:
    """Return the models whose own requests make up those to the ensemble: the ones that take a tensor of it."""
    return tuple(dict.fromkeys(model for model, _ in takers(spec).values()))


def ensemble_requests(spec: EnsembleSpec, given: Mapping[str, Requests]) -> Requests:
    """Return requests to an ensemble, as many as the model with most has; the others' are sent in turn.

    Args:
        spec: The ensemble.
        given: The requests to each of `asked_models` alone.
    """
    most = max(given.values(), key=lambda requests: len(requests.tensors))
    return Requests(most.names, _Together(spec, {model: requests.tensors for model, requests in given.items()}))


class _Together(Sequence[Tensors]):
    """Requests made of several models' own when they are taken: generated ones may be large."""

    def __init__(self, spec: EnsembleSpec, given: Mapping[str, Sequence[Tensors]]) -> None:
        self._spec = spec
        self._given = given

    def __len__(self) -> int:
        return max(len(tensors) for tensors in self._given.values())

    @overload
    def __getitem__(self, index: int) -> Tensors: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensors]: ...

    def __getitem__(self, index: int | slice) -> "Tensors | Sequence[Tensors]":
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return as_request(self._spec, {model: tensors[number % len(tensors)] for model, tensors in self._given.items()})


def ensemble_in_process(
    spec: EnsembleSpec, files: Mapping[str, Path], given: Mapping[str, Requests], *, threads: int = 0
) -> InProcess:
    """Return an ensemble as load sees it.

    Args:
        spec: The ensemble.
        files: The ONNX file of each of its models.
        given: The requests to each of `asked_models` alone.
        threads: Threads per operator. Default: one per core.

    Raises:
        SourceError: When ONNX Runtime cannot run a model.
        LayoutError: When the steps do not fit together.
    """
    used = {step.model for step in spec.steps}
    runner = EnsembleRunner(spec, {name: Session(file, threads=threads) for name, file in files.items() if name in used})
    named = f"ensemble {spec.name} of {', '.join(sorted(used))}"
    return InProcess(runner, ensemble_requests(spec, given).tensors, threads=threads, named=named)
