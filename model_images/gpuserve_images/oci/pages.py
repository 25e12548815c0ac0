"""Lists that a registry gives in pages."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci.config import Json
from gpuserve_images.oci.reference import Reference
from gpuserve_images.oci.refusals import document

if TYPE_CHECKING:
    from gpuserve_images.oci.client import RegistryClient, Request


def pages(client: "RegistryClient", place: Reference, request: "Request", first: requests.Response) -> Iterator[Json]:
    """Yield what an answer with a list holds, and those with the rest of it, which its `Link` names.

    Args:
        client: Who asked for the list.
        place: The repository that it is of.
        request: What was asked.
        first: The answer to that.

    Raises:
        RegistryError: The registry refused, is down, is none, or names a page that was there before.
    """
    answer, seen, asked = first, {request.url}, urlsplit(request.url)
    yield document(place, answer)
    while following := answer.links.get("next", {}).get("url"):
        # A registry behind a proxy may know its own address wrongly; another host is not asked, whatever it says.
        url = urlsplit(urljoin(request.url, following))._replace(scheme=asked.scheme, netloc=asked.netloc).geturl()
        if url in seen:
            fix = "See the registry's log, and that of the proxy before it"
            raise RegistryError(place.registry, place.repository, f"its list goes round in a circle, at {url}", fix)
        seen.add(url)
        answer = client.ask(place, replace(request, url=url), accept=(200,))
        yield document(place, answer)
