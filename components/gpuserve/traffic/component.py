"""`TrafficPolicy`, the resource."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from gpuserve.kubernetes.component import Component, refusing
from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.metadata import Manifest
from gpuserve.kubernetes.registration import KubernetesObject
from gpuserve.traffic.manifests import WAY, TlsMaterial, address_url, manifests, service_url
from gpuserve.traffic.spec import TrafficSpec


class TrafficPolicy(Component):
    """Host, path, weighted split, mirror, timeout and TLS of one service, through a Gateway.

    Attributes:
        resources: The Kubernetes objects by role.
        url: Output: the base address that clients use, the Gateway's as its status gives it and the path, such as
            ``http://127.0.0.1:8080``: that with TLS where the plain listener only redirects.
        https_url: Output: its TLS base address, or ``None`` without a TLS listener.
        ca: Output: PEM certificate of the generated CA that clients verify with; ``None`` in other TLS modes.
    """

    def __init__(
        self,
        name: str,
        args: TrafficSpec | Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
        *,
        servers: pulumi.Resource | Sequence[pulumi.Resource] = (),
    ) -> None:
        """Declare the policy.

        Args:
            name: Name of the component and of its objects in the cluster, unique in the namespace.
            args: A `TrafficSpec` or a mapping with its fields.
            opts: Pulumi's options; depend on the pool, whose namespace the objects are in.
            servers: The `ServingStack` of each version in the split and the mirror, or the only one. The Gateway does not wait for them, but what leads
                requests to them does: a version gets its share when it is ready, and never where it does not become so.

        Raises:
            SpecError: When ``args`` is not a valid policy; all its problems at once.
        """
        with refusing(name):
            spec = TrafficSpec.parse(args)
            awaited = _resources(servers)
        super().__init__("TrafficPolicy", name, spec, opts)
        material = self._generate(name, spec) if spec.tls.mode == "generated" else None
        self.resources = self._register(manifests(name, spec, material), awaited)
        gateway = self.resources.get("gateway") or self._existing_gateway(name, spec)
        live = pulumi.Output.all(spec=gateway.spec, status=gateway.status)
        self.url = live.apply(lambda found: service_url(found, spec))
        self.https_url = live.apply(lambda found: address_url(found, "HTTPS", spec))
        self.ca: pulumi.Output[str | None] = pulumi.Output.from_input(material.ca if material else None)
        self.register_outputs({"url": self.url, "https_url": self.https_url, "ca": self.ca})

    def _register(self, objects: Mapping[str, Manifest], servers: Sequence[pulumi.Resource]) -> dict[str, KubernetesObject]:
        """Register the objects; those on a request's way wait for the servers, and each for those that it names."""
        found = self.register_children({role: one for role, one in objects.items() if role not in WAY})
        ready: list[pulumi.Resource] = [*servers]
        for role in filter(objects.__contains__, WAY):
            found |= self.register_children({role: objects[role]}, after=ready)
            ready.append(found[role])
        return found

    def _generate(self, name: str, spec: TrafficSpec) -> TlsMaterial:
        # cryptography takes a tenth of a second to import: only for who needs it
        from gpuserve.traffic.certificate_resource import GeneratedCertificate

        made = GeneratedCertificate(self.names.of(f"{name}-certificate"), spec.host, pulumi.ResourceOptions(parent=self))
        return TlsMaterial(made.certificate, made.key, made.ca)

    def _existing_gateway(self, name: str, spec: TrafficSpec) -> KubernetesObject:
        """Read the Gateway that the policy attaches to, for its address."""
        namespace = spec.gateway.namespace or spec.namespace
        reference = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": spec.gateway.name, "namespace": namespace},
        }
        found = pulumi.ResourceOptions(parent=self, id=f"{namespace}/{spec.gateway.name}")
        return KubernetesObject(self.names.of(f"{name}-gateway"), reference, found)


def _resources(servers: object) -> tuple[pulumi.Resource, ...]:
    """Return the resources that routes wait for.

    Raises:
        SpecError: When one is something else, such as an `Endpoint`, which says where requests go but not when there is a server.
    """
    found: Sequence[object] = tuple(servers) if isinstance(servers, Sequence) and not isinstance(servers, str) else (servers,)
    for index, server in enumerate(found):
        if not isinstance(server, pulumi.Resource):
            reason = f"is of type {type(server).__name__}, and a resource is wanted"
            raise SpecError.of(f"servers[{index}]", None, reason, "pass the ServingStack itself")
    return tuple(server for server in found if isinstance(server, pulumi.Resource))
