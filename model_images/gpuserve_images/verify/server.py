"""A model behind a server of the open inference protocol v2, as load sees it, whatever carries the messages."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, Generic, Self, TypeVar

from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.samples.codec import Tensors, as_declared
from gpuserve_images.verify.in_process import distinct_batches
from gpuserve_images.verify.remote import Remote, signature_of

M = TypeVar("M")


class Server(ABC, Generic[M]):
    """What HTTP and gRPC have in common; `M` is a request as it is sent."""

    def __init__(self, remote: Remote) -> None:
        """Take where the server is; the protocol's own class asks for the model's metadata."""
        self._remote = remote
        self._metadata: Mapping[str, Any] = {}
        self._requests: Sequence[Tensors] = ()

    def signature(self) -> Signature:
        """Return the model's inputs and outputs, as the server declares them.

        Raises:
            LoadError: When it declares none.
        """
        return signature_of(self._metadata, self._remote)

    @property
    def cores(self) -> None:
        """Cores of this machine that it runs on: nobody knows of a server."""
        return

    def sending(self, requests: Sequence[Tensors]) -> Self:
        """Take what callers send, in turn: requests of a batch of 1, as the model itself takes them."""
        declared = {
            item.get("name"): [int(size) for size in item.get("shape") or ()] for item in self._metadata.get("inputs") or ()
        }
        self._requests = [
            {name: as_declared(array, declared.get(name, ())) for name, array in tensors.items()} for tensors in requests
        ]
        return self

    def _messages(self, batch: int) -> Iterator[M]:
        """Return one caller's requests, without an end, encoded before the clock runs."""
        return cycle([self._encode(tensors) for tensors in distinct_batches(self._requests, batch)])

    @abstractmethod
    def _encode(self, tensors: Tensors) -> M:
        """Return a request as it is sent."""
