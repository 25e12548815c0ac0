"""Proxies that the environment names: their faults are told by the variable, and never with the password in its value."""

import os

import pytest
import requests
from huggingface_hub.utils import close_session

from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.oci.client import RegistryClient
from gpuserve_images.oci.reference import Reference
from gpuserve_images.proxies import by_way_of_proxy, proxy_fault
from gpuserve_images.sources.addresses import parse
from gpuserve_images.sources.hugging_face import HuggingFace
from gpuserve_images.sources.remote import HiccupError
from gpuserve_images.sources.web import WebFile

HOST = "registry.example.com"
FAULTS = [
    ("http://user:se/cret@127.0.0.1:1", "the proxy that HTTPS_PROXY names is no address"),
    ("http://", "the proxy that HTTPS_PROXY names is no address"),
    ("http://user:cret@127.0.0.1:9", "the proxy that HTTPS_PROXY names cannot be reached"),
    ("socks5://user:cret@127.0.0.1:9", "the proxy that HTTPS_PROXY names speaks SOCKS"),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("gpuserve_images.oci.client.pause", lambda *_: None)
    close_session()  # the hub's client looks at the environment once


@pytest.mark.parametrize(("proxy", "told"), FAULTS)
def test_a_registry_is_not_blamed_for_its_proxy(proxy, told, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(RegistryError) as caught:
        RegistryClient(HOST).manifest(Reference.parse(f"{HOST}/models/x:1"))
    assert told in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value).partition("Fix:")[2]
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(("proxy", "told"), FAULTS)
def test_an_address_is_not_blamed_for_its_proxy(proxy, told, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    web = WebFile(parse(f"https://{HOST}/model.onnx"))
    (file,) = web.listing().files
    # What may pass is tried again, what lasts is told at once.
    with pytest.raises(HiccupError if "reached" in told else SourceError) as caught, web.read(file, 0):
        pass
    assert told in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(("proxy", "told"), FAULTS[:2] + FAULTS[3:])
def test_the_hub_is_not_blamed_for_its_proxy(proxy, told, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SourceError) as caught:
        HuggingFace(parse("hf://google/bert@main", pinned=False)).listing()
    assert told in str(caught.value)
    assert "cret" not in str(caught.value)


def test_a_proxy_of_the_hub_that_is_down_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:cret@127.0.0.1:9")
    with pytest.raises(HiccupError, match=r"^the connection failed, by way of the proxy that HTTPS_PROXY names$"):
        HuggingFace(parse("hf://google/bert@main", pinned=False)).listing()
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert by_way_of_proxy("https://example.com/x") == by_way_of_proxy("http://other.example.org/x") == ""


def test_a_proxy_that_refuses_says_why(monkeypatch):
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    error = requests.exceptions.ProxyError(
        "('Cannot connect', OSError('Tunnel connection failed: 407 Proxy Authentication Required'))"
    )
    fault = proxy_fault(error)
    assert fault is not None
    assert fault.reason == "the proxy that all_proxy names refused the connection (407 Proxy Authentication Required)"
    assert fault.lasting


@pytest.mark.parametrize(
    "error", [requests.exceptions.ConnectionError("refused"), requests.exceptions.InvalidURL("x"), ValueError("y")]
)
def test_what_is_no_fault_of_a_proxy_is_left(error, monkeypatch):
    assert proxy_fault(error) is None
    monkeypatch.setenv("HTTPS_PROXY", "127.0.0.1:3128")
    assert proxy_fault(error) is None
