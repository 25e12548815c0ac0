"""Whether Kubernetes would take a manifest, asked of its own schemas, offline."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from gpuserve.kubernetes.metadata import Manifest

KUBERNETES_VERSION = "1.36"
"""The release whose schemas judge: the one that the embedded cluster runs."""

_FOLDER = f"kubernetes-json-schema/v{KUBERNETES_VERSION}.0-local-strict"


def schema_errors(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield field and message of everything that breaks the strict schema of a built-in kind.

    `kubernetes_validate.validate` reads two megabytes of definitions for every manifest and stops at the first error; this
    keeps its schemas in memory. Custom resources are the API server's to judge.
    """
    validator = _validator(manifest["apiVersion"], manifest["kind"])
    if validator is None:
        return
    for error in validator.iter_errors(manifest):
        yield ".".join(str(part) for part in error.absolute_path), error.message


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator | None:
    group, slash, version = api_version.rpartition("/")
    name = f"{kind.lower()}-{group.partition('.')[0]}{'-' if slash else ''}{version}.json"
    try:
        schema = schema_contents(f"{_FOLDER}/{name}", KUBERNETES_VERSION)
    except FileNotFoundError:
        return None
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions())


@cache
def _definitions() -> "Registry[Any]":
    contents = schema_contents(f"{_FOLDER}/_definitions.json", KUBERNETES_VERSION)
    return Resource.from_contents(contents) @ Registry()
