"""The thin resource around a pure function, the same for every component."""

import re
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager

import pulumi

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.identifiers import SUBDOMAIN
from gpuserve.kubernetes.metadata import Manifest
from gpuserve.kubernetes.names import Named, Names
from gpuserve.kubernetes.registration import KubernetesObject, register
from gpuserve.kubernetes.spec import Spec, plain

MAX_NAME = 63
"""Longest value of a label, which a component's name is too."""


class RefusedError(SpecError, pulumi.RunError):
    """A `SpecError` in a program: the engine shows its message alone, without tracebacks."""


@contextmanager
def refusing(name: str) -> Generator[None]:
    """Check a component's name, and end the program with the problems alone where the name or what the block reads is wrong.

    Args:
        name: The component's name, which its objects and their labels have too.

    Raises:
        RefusedError: With the problems.
    """
    try:
        _check_name(name)
        yield
    except SpecError as error:
        raise RefusedError(error.problems) from error


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        reason = f"is no text, but of type {type(name).__name__}: the engine knows resources by their names"
        raise SpecError.of("name", None, reason, "pass the component's name as text")
    if len(name) > MAX_NAME or not re.fullmatch(SUBDOMAIN, name):
        reason = f"is no name of at most {MAX_NAME} characters for objects in the cluster and their labels (RFC 1123)"
        fix = "use lower-case letters, digits, '-' and '.', starting and ending with a letter or digit"
        raise SpecError.of("name", name, reason, fix)


class Component(Named):
    """A component resource whose inputs are its spec and whose children are its manifests.

    Attributes:
        names: What the names of the resources below it begin with.

    The spec is registered as the component's inputs, so policies and ``pulumi preview`` see what the user declared.
    """

    def __init__(self, kind: str, name: str, spec: Spec, opts: pulumi.ResourceOptions | None) -> None:
        """Register the component as ``gpuserve:index:<kind>``; below a `Platform` with names of its own, under one of those."""
        parent = opts.parent if opts else None
        self.names = parent.names if isinstance(parent, Named) else Names()
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=self.names.aliases(name)))
        super().__init__(f"gpuserve:index:{kind}", self.names.of(name), plain(spec), opts)
        self._component_name = name
        self._after = pulumi.ResourceOptions(depends_on=opts.depends_on if opts else None)

    def register_children(
        self, manifests: Mapping[str, Manifest], *, lasting: Collection[str] = (), after: Sequence[pulumi.Resource] = ()
    ) -> dict[str, KubernetesObject]:
        """Register ``manifests`` as children named ``<name>-<role>``.

        What the component itself depends on, its children wait for: the engine does not inherit ``depends_on``.

        Args:
            manifests: Role to manifest.
            lasting: Roles of the objects that are not called after the component, and so outlive its name. Default: none.
            after: Resources that these children wait for besides, and are deleted before. Default: none.
        """
        waiting = pulumi.ResourceOptions.merge(self._after, pulumi.ResourceOptions(depends_on=list(after)))
        return register(self._component_name, manifests, self, depends_on=waiting.depends_on, lasting=lasting)
