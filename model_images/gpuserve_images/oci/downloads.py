"""Receiving one blob over a line that breaks: what arrived is not asked for again."""

from collections.abc import Iterator

from gpuserve_images.errors import BrokenOffError, RegistryError
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.retries import ATTEMPTS, pause

GAIN_BYTES = 4 << 20
"""Bytes that an attempt must bring to count as getting on; a registry without ranges sends all that came before them again."""


def steadily(client: RegistryClient, place: Reference, digest: str, size: int, start: int = 0) -> Iterator[bytes]:
    """Yield a blob's bytes as they arrive; after a cut go on with the next byte, for as long as that gets on.

    Only cuts are survived here: a registry that refuses, or gives no answer, was asked several times by the client already. Who reads
    checks the digest of the whole.

    Args:
        client: Client of the blob's registry.
        place: Its repository.
        digest: Its digest.
        size: Its bytes.
        start: The first byte that is wanted.

    Raises:
        RegistryError: The registry refused, is down, or the connection broke several times in a row.
    """
    given, mark, failures = start, start, 0
    while True:
        try:
            for chunk in client.blob_chunks(place, digest, given, size=size):
                given += len(chunk)
                yield chunk
        except BrokenOffError as cut:
            if given == size:
                return
            gained = given - mark >= GAIN_BYTES
            failures = 1 if gained else failures + 1
            mark = given if gained else mark
            if failures == ATTEMPTS:
                raise _given_up(place, digest, given, size) from cut
            pause(failures - 1)
        else:
            return


def _given_up(place: Reference, digest: str, given: int, size: int) -> RegistryError:
    reason = (
        f"the connection broke {ATTEMPTS} times in a row while {digest} was received, the last time at byte {given} of {size}"
    )
    fix = "See the line to the registry, its log, and the time limit of a proxy before it; then run again"
    return RegistryError(place.registry, place.repository, reason, fix)
