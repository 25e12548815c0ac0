"""The thin resource around a pure function, the same for every component."""

from collections.abc import Collection, Mapping, Sequence

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
