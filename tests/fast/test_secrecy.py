"""What people paste into the wrong field: an error names the field, and repeats no key, password or token."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.spec import ModelSpec

Change = Callable[[Any], object]
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIhunter2\n-----END EC PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda box: box.platform.update({"registry_password": "hunter2"}), ["registry_password = <not shown", "unknown field"]),
        (
            lambda box: box.platform.update(registry={"host": "registry.example.com", "password": "hunter2"}),
            ["registry = {'host': 'registry.example.com', 'password': <not shown", "is not a text"],
        ),
        (
            lambda box: box.platform.update(registry="https://me:hunter2@registry.example.com"),
            ["registry = 'https://...@registry.example.com'", "pattern"],
        ),
        (
            lambda box: box.platform.update(registry="https://me:p@hunter2@registry.example.com"),
            ["registry = 'https://...@registry.example.com'", "pattern"],
        ),
        (lambda box: box.platform.update(registry="me:hunter2@registry.example.com/a"), ["registry = '...@registry.example.com/a'"]),
        (lambda box: box.service.update(pool="nvapi-hunter2hunter2hunter2"), ["services[0].pool = <not shown"]),
        (lambda box: box.service["traffic"].update(host="https://a.example/m?sv=1&sig=hunter2"), ["traffic.host = <not shown"]),
        (lambda box: box.service.update(pool=PEM), ["services[0].pool = <not shown", "is not a DNS label"]),
        (lambda box: box.service["traffic"].update(host=[PEM]), ["services[0].traffic.host = [<not shown"]),
        (lambda box: box.service.update(scale=["hf_hunter2hunter2hunter2"]), ["services[0].scale = [<not shown"]),
        (lambda box: box.model.update(bake={"sign": {"key": "k", "password": ["hunter2"]}}), ["bake.sign.password = [<not"]),
        (lambda box: box.platform.update(clientSecret="hunter2"), ["clientSecret = <not shown"]),
        (lambda box: box.service["traffic"].update(tls={"mode": "secret", "secret": "Not_A_Name"}), ["tls.secret = 'Not_A_Name'"]),
        (lambda box: box.model["source"].update(sessionToken="hunter2"), ["source.sessionToken = <not shown", "unknown field"]),
    ],
)  # fmt: skip
def test_a_secret_in_a_wrong_place_is_not_repeated(
    spoil: Change, words: list[str], sandbox: Any, cli: Callable[..., Any], refusal: Callable[[], str]
) -> None:
    spoil(sandbox)
    sandbox.write()
    message = refusal()
    for word in words:
        assert word in message
    shown = cli("--debug", "check", "-s", "local", "--stacks", sandbox.stacks)
    assert "hunter2" not in message + "".join(traceback.format_exception(*shown.exc_info))


@pytest.mark.parametrize(
    ("registry", "fix"),
    [
        ("r.example.com/ML/x/", "Fix: write 'r.example.com/ml/x'"),
        ("https://r.example.com/ml", "Fix: write 'r.example.com/ml'"),
        ("r.example.com/a b", "Fix: correct the value"),
        ("AKIAIOSFODNN7EXAMPLE", "Fix: correct the value"),
    ],
)
def test_a_registry_is_corrected_where_it_is_no_secret(
    registry: str, fix: str, sandbox: Any, refusal: Callable[[], str]
) -> None:
    sandbox.platform["registry"] = registry
    sandbox.write()
    message = refusal()
    assert fix in message
    assert "akia" not in message.lower()


@pytest.mark.parametrize(
    ("spoil", "fields"),
    [
        (lambda box: box.platform.update(registry={"secure": "v1:hunter2"}), [".registry"]),
        (lambda box: box.platform.update(labels={"secure": "v1:hunter2"}), [".labels"]),
        (
            lambda box: (
                box.service["traffic"].update(host={"secure": "v1:hunter2"}),
                box.platform["pools"][0].update(labels={"team": {"secure": "v1:hunter2"}}),
            ),
            [".pools[0].labels.team", ".services[0].traffic.host"],
        ),
    ],
)
def test_what_pulumi_encrypted_is_said_to_be_so(
    spoil: Change, fields: list[str], sandbox: Any, refusal: Callable[[], str]
) -> None:
    spoil(sandbox)
    sandbox.write()
    lines = refusal().splitlines()
    start = f"{sandbox.stack_file}: config.gpuserve:platform"
    assert [line.partition(": is encrypted: ")[0] for line in lines] == [f"{start}{field}" for field in fields]
    assert all("Fix: write it in plain" in line for line in lines)
    assert "hunter2" not in "".join(lines)


def test_pydantics_own_error_shows_no_value() -> None:
    written = {"name": "tiny", "source": {"file": "tiny.onnx", "password": "hunter2"}, "batch": {"max": "many"}}
    with pytest.raises(SpecError, match=r"batch.max = 'many': is not a whole number") as caught:
        ModelSpec.parse(written)
    chain = "".join(traceback.format_exception(caught.value))
    assert "ValidationError: " in chain
    assert "hunter2" not in chain
