"""The thin resource around a pure function, the same for every component."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pulumi

from gpuserve.kubernetes.metadata import Manifest
from gpuserve.kubernetes.names import Named, Names
from gpuserve.kubernetes.registration import KubernetesObject, register
from gpuserve.kubernetes.spec import Spec, plain


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
        self._after = opts.depends_on if opts else None

    def register_children(
        self,
        manifests: Mapping[str, Manifest],
        *,
        lasting: Collection[str] = (),
        after: Mapping[str, Sequence[pulumi.Resource]] | None = None,
    ) -> dict[str, KubernetesObject]:
        """Register ``manifests`` as children named ``<name>-<role>``.

        What the component itself depends on, its children wait for: the engine does not inherit ``depends_on``.

        Args:
            manifests: Role to manifest.
            lasting: Roles of the objects that are not called after the component, and so outlive its name. Default: none.
            after: Role to what that object alone waits for besides. Default: nothing.
        """
        own = pulumi.ResourceOptions(depends_on=self._after)

        def waits(role: str) -> Any:
            more = pulumi.ResourceOptions(depends_on=list((after or {}).get(role, ())))
            return pulumi.ResourceOptions.merge(own, more).depends_on

        return register(self._component_name, manifests, self, after=waits, lasting=lasting)
