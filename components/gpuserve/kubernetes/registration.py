"""From manifests to Pulumi resources: the only place where plain data meets the engine."""

from collections.abc import Collection, Mapping
from typing import Any

import pulumi

from gpuserve.kubernetes.metadata import Manifest, is_patch
from gpuserve.kubernetes.names import Named, Names

PROVIDER_VERSION = "4.25.0"
"""Version of the Kubernetes provider whose schema and await logic gpuserve is tested with."""

_FIELD_MANAGER = "pulumi.com/patchFieldManager"
"""Annotation that the provider reads: under which name it owns an object's fields."""


class KubernetesObject(pulumi.CustomResource):
    """A Kubernetes object registered exactly as its manifest says.

    It has the type token of the Kubernetes provider (``kubernetes:apps/v1:Deployment``), so engine, policies and
    ``pulumi refresh`` see what they would see from ``pulumi_kubernetes``. Its generated classes are not used because they
    rename every key to snake case and back, and importing them costs more than a whole render (docs/adr/0003).
    """

    metadata: pulumi.Output[dict[str, Any]]
    spec: pulumi.Output[Any]
    status: pulumi.Output[Any]

    def __init__(self, name: str, manifest: Manifest, opts: pulumi.ResourceOptions | None = None) -> None:
        version = "core/v1" if manifest["apiVersion"] == "v1" else manifest["apiVersion"]
        # The provider tells a patch by this token, while the object inside keeps its own kind.
        kind = f"{manifest['kind']}Patch" if is_patch(manifest) else manifest["kind"]
        props: dict[str, Any] = {"status": None, "spec": None, **manifest}
        defaults = pulumi.ResourceOptions(version=PROVIDER_VERSION)
        super().__init__(f"kubernetes:{version}:{kind}", name, props, pulumi.ResourceOptions.merge(defaults, opts))


def register(
    name: str,
    manifests: Mapping[str, Manifest],
    parent: pulumi.Resource,
    *,
    depends_on: Any = None,
    lasting: Collection[str] = (),
) -> dict[str, KubernetesObject]:
    """Register each manifest as a child of ``parent`` named ``<name>-<role>``.

    An object in a namespace that is itself among ``manifests`` waits for it: the engine knows no such order by itself.

    To the engine a child of a renamed component is a new resource beside the old one, which it deletes last. An object that both of them
    mean would be deleted with it. Such objects are named in ``lasting``, and their children named after them: see `_lasting_name`.

    Args:
        name: The component's name.
        manifests: Role to manifest, in the order in which they are registered.
        parent: The component, whose names the children's begin with.
        depends_on: Resources that must be ready before any of these, as ``pulumi.ResourceOptions`` takes them.
        lasting: Roles of the objects that stay the same objects when the component is renamed. Default: none.
    """
    opts = pulumi.ResourceOptions(parent=parent, depends_on=depends_on)
    names = parent.names if isinstance(parent, Named) else Names()
    registered: dict[str, KubernetesObject] = {}
    within: dict[str, pulumi.ResourceOptions] = {}
    for role, manifest in manifests.items():
        metadata = manifest["metadata"]
        child, its_opts = f"{name}-{role}", within.get(metadata.get("namespace", ""), opts)
        aliases = names.aliases(child)
        if role in lasting:
            # Stacks of earlier versions have it under the component's name.
            aliases.append(pulumi.Alias(name=names.of(child)))
            child = _lasting_name(manifest)
            aliases += names.aliases(child)
        its_opts = pulumi.ResourceOptions.merge(its_opts, pulumi.ResourceOptions(aliases=aliases))
        registered[role] = KubernetesObject(names.of(child), _owned(manifest), its_opts)
        if manifest["kind"] == "Namespace":
            waiting = pulumi.ResourceOptions(depends_on=registered[role])
            within[metadata["name"]] = pulumi.ResourceOptions.merge(opts, waiting)
    return registered


def _lasting_name(manifest: Manifest) -> str:
    """Name a child after its object alone: ``namespace/ml``, ``configmap/monitoring/gpuserve-rules-prod``.

    No ``<name>-<role>`` has a slash in it, so that none of an older stack's children is taken for another's.
    """
    metadata = manifest["metadata"]
    namespace = [metadata["namespace"]] if "namespace" in metadata else []
    return "/".join([manifest["kind"].lower(), *namespace, metadata["name"]])


def _owned(manifest: Manifest) -> Manifest:
    """Name the owner of the object's fields after the stack.

    Else the provider makes a new random name for each creation. A run that was killed after it created an object, but before
    it could note so, then leaves fields with an owner whom the next run conflicts with. Patches keep a name each: two of one
    object must not take each other's fields back.
    """
    if is_patch(manifest):
        return manifest
    metadata = manifest["metadata"]
    owner = f"pulumi-{pulumi.get_project()}-{pulumi.get_stack()}"
    return {**manifest, "metadata": {**metadata, "annotations": {_FIELD_MANAGER: owner, **metadata.get("annotations", {})}}}
