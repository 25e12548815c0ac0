"""What you may say about the traffic of a service."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gpuserve.kubernetes.identifiers import DnsLabel, HostName, UrlPath
from gpuserve.kubernetes.outputs import is_output
from gpuserve.kubernetes.spec import Spec, known_at_plan_time
from gpuserve.kubernetes.units import Duration, Percent
from gpuserve.kubernetes.values import Endpoint
from gpuserve.traffic.checks import problems

Port = Annotated[int, BeforeValidator(known_at_plan_time), Field(ge=1, le=65535, strict=True)]
"""A TCP port."""

Weight = Annotated[int, BeforeValidator(known_at_plan_time), Field(ge=0, le=100, strict=True)]
"""A share of the requests in percent; 0 keeps the version reachable for a later switch."""


def _expressible(timeout: Duration) -> Duration:
    if not 0.001 <= timeout.seconds < 100_000:  # noqa: PLR2004 - Gateway API durations: whole ms, five digits (GEP-2257)
        msg = "is not between 1ms and 99999s, what Gateway API can express; write for example 300s"
        raise ValueError(msg)
    return timeout


RequestTimeout = Annotated[Duration, AfterValidator(_expressible)]
"""The longest wait for an answer."""

ObjectName = Annotated[
    str,
    BeforeValidator(known_at_plan_time),
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63),
]
"""The name of an object or namespace that somebody else may have chosen: an RFC 1123 label."""


def require_whole(kind: str, shares: Sequence[tuple[str, int]]) -> None:
    """Refuse shares that are not 100 percent together, or that name the same ``kind`` of thing twice.

    Raises:
        ValueError: With the sum, or with the name that stands twice.
    """
    weights = [weight for _, weight in shares]
    if sum(weights) != 100:  # noqa: PLR2004 - percent
        written = " + ".join(str(weight) for weight in weights)
        raise ValueError(f"has weights {written} = {sum(weights)}, not 100; change the weights so that they add up to 100")
    names = [name for name, _ in shares]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"names {kind} {repeated[0]!r} twice; give each {kind} one entry and add its weights")


class TlsSpec(Spec):
    """Where the certificate comes from.

    Attributes:
        mode: ``none`` (default): plain HTTP. ``generated``: a CA and a certificate for the host, made by gpuserve and kept in the
            stack's state. ``secret``: an existing ``kubernetes.io/tls`` Secret. ``cert-manager``: a Certificate that
            cert-manager fills.
        secret: Name of the Secret in the policy's namespace; only with mode ``secret``.
        issuer: Name of the cert-manager issuer; only with mode ``cert-manager``.
        issuer_kind: ``ClusterIssuer`` (default) or ``Issuer``.
        plain: What the plain listener does beside that with a certificate: ``redirect``: it sends clients to the other one. ``serve``: it
            answers as well, in clear. Default ``redirect``.
    """

    mode: Annotated[Literal["none", "generated", "secret", "cert-manager"], BeforeValidator(known_at_plan_time)] = "none"
    secret: ObjectName | None = None
    issuer: ObjectName | None = None
    issuer_kind: Literal["ClusterIssuer", "Issuer"] = "ClusterIssuer"
    plain: Annotated[Literal["redirect", "serve"], BeforeValidator(known_at_plan_time)] = "redirect"

    @model_validator(mode="after")
    def _fields_fit_the_mode(self) -> Self:
        for field, mode in (("secret", "secret"), ("issuer", "cert-manager")):
            given = getattr(self, field)
            if self.mode == mode and given is None:
                msg = f"has mode {mode!r} but no {field}; add `{field}:` with the name of the {field}"
                raise ValueError(msg)
            if self.mode != mode and given is not None:
                msg = f"names {field} {given!r}, which mode {self.mode!r} does not use; remove it or set `mode: {mode}`"
                raise ValueError(msg)
        if self.mode == "none" and "plain" in self.chosen():
            msg = f"says plain: {self.plain} and has no certificate, so all is plain; remove it, or say another `mode:`"
            raise ValueError(msg)
        return self

    @property
    def redirects(self) -> bool:
        """True when requests in clear are sent to the listener with the certificate."""
        return self.mode != "none" and self.plain == "redirect"


class GatewaySpec(Spec):
    """The Gateway: one of this policy's own, or one that exists.

    Attributes:
        class_name: Written ``class``: the GatewayClass. Default ``traefik``; with ``name`` there is no default: it is that Gateway's
            ``gatewayClassName``.
        dialect: How the gateway is told of split, mirror and timeout: ``traefik`` by objects of Traefik's own, ``gateway-api`` by plain
            Gateway API, in which Traefik answers mirrored requests with 500 and ignores timeouts. Default ``traefik`` for a class with that
            word in its name, such as ``traefik-internal``, else ``gateway-api``: say it for a Traefik whose class is called otherwise.
        http_port: Port of the plain listener; default 80. Traefik takes a listener only on the port of one of its entryPoints, 8000 in its
            Helm chart. Not used with ``name``.
        https_port: Port of the TLS listener; default 443; 8443 for Traefik's Helm chart. Not used with ``name``.
        exposed_http_port: Port at which clients reach the plain listener, where what stands before the gateway exposes another, as the
            Service of Traefik's chart does (``exposedPort``: 80 for 8000). Default the listener's own port.
        exposed_https_port: The same for the TLS listener, where requests in clear are sent too; 443 for 8443 in Traefik's chart.
        name: Name of an existing Gateway to attach to; its listeners and certificates are its owner's business.
        namespace: Namespace of that Gateway; default the policy's.
    """

    model_config = ConfigDict(populate_by_name=True)

    class_name: ObjectName = Field(default="traefik", alias="class")
    dialect: Annotated[Literal["gateway-api", "traefik"] | None, BeforeValidator(known_at_plan_time)] = None
    http_port: Port = 80
    https_port: Port = 443
    exposed_http_port: Port | None = None
    exposed_https_port: Port | None = None
    name: ObjectName | None = None
    namespace: ObjectName | None = None

    @model_validator(mode="after")
    def _own_or_existing(self) -> Self:
        if self.name is None and self.namespace is not None:
            msg = "has a namespace but no name; add `name:` of the existing Gateway, or remove `namespace:`"
            raise ValueError(msg)
        if self.name is not None and "class_name" not in self.model_fields_set:
            msg = (
                f"names Gateway {self.name!r} without its class, which decides whether it gets Traefik's own objects or plain Gateway API; "
                "add `class:` with that Gateway's gatewayClassName, for example `class: traefik`"
            )
            raise ValueError(msg)
        if self.http_port == self.https_port:
            msg = f"has http_port and https_port both {self.http_port}; give each listener its own port"
            raise ValueError(msg)
        plain, secure = self._exposed()
        if plain is not None and plain == secure:
            msg = f"exposes both listeners at port {plain}; give exposed_http_port and exposed_https_port a port each, for example 80 and 443"
            raise ValueError(msg)
        return self

    def reached_at(self, protocol: str, port: int) -> int:
        """Return the port at which clients reach a listener of ``protocol`` (``HTTP`` or ``HTTPS``) with the given port of its own."""
        exposed = self.exposed_http_port if protocol == "HTTP" else self.exposed_https_port
        return port if exposed is None else exposed

    def _exposed(self) -> tuple[int | None, int | None]:
        """Return the ports of the plain and the TLS listener for clients; ``None`` where an existing Gateway decides."""
        if self.name is not None:
            return self.exposed_http_port, self.exposed_https_port
        return self.reached_at("HTTP", self.http_port), self.reached_at("HTTPS", self.https_port)


class RouteSpec(Spec):
    """One version's share.

    Attributes:
        to: The version's endpoint.
        weight: Its share of the requests in percent; the shares of a policy add up to 100.
    """

    to: Endpoint
    weight: Weight


class MirrorSpec(Spec):
    """Copies of requests whose answers nobody waits for.

    Attributes:
        to: The endpoint that receives the copies, one of the split's.
        percent: Share of all requests that is copied; default all.
    """

    to: Endpoint
    percent: Percent = Percent(100)


class TrafficSpec(Spec):
    """How requests reach the versions of a service.

    Attributes:
        service: The service's name, for labels.
        namespace: Namespace of the endpoints and of everything the policy makes.
        host: Host that clients send; the first label may be ``*``.
        path: URL prefix, taken off before a server sees it; default everything. Gateways route HTTP alone: gRPC has paths of its
            own, so its clients ask a version's Service, whose `ServingSpec.clients` lets them in.
        split: Shares of the versions, 100 percent in all.
        mirror: Shadow traffic; default none.
        timeout: Longest wait for an answer; default 300 s, enough for a cold model and short of common proxies' limits.
        tls: The certificate; default none.
        gateway: The Gateway; default one of the policy's own.
    """

    service: DnsLabel
    namespace: ObjectName
    host: HostName
    path: UrlPath = "/"
    split: Annotated[tuple[RouteSpec, ...], Field(min_length=1)]
    mirror: MirrorSpec | None = None
    timeout: RequestTimeout = Duration("300s")
    tls: TlsSpec = TlsSpec()
    gateway: GatewaySpec = GatewaySpec()

    @field_validator("split")
    @classmethod
    def _whole(cls, split: tuple[RouteSpec, ...]) -> tuple[RouteSpec, ...]:
        require_whole("endpoint", [(route.to.service, route.weight) for route in split])
        return split

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        endpoints = [route.to for route in self.split]
        # Of an Output nobody knows yet.
        strangers = sorted({e.namespace for e in endpoints if not is_output(e.namespace)} - {self.namespace})
        if strangers:
            msg = (
                f"is in namespace {self.namespace!r} but has an endpoint in {strangers[0]!r}; "
                "serve all versions of a service from one pool, and put the policy in its namespace"
            )
            raise ValueError(msg)
        if self.mirror is not None and self.mirror.to not in endpoints:
            names = ", ".join(repr(endpoint.service) for endpoint in endpoints)
            msg = f"mirrors to {self.mirror.to.service!r}, which is no version of the split; mirror to one of {names}"
            raise ValueError(msg)
        share = self.mirror.percent if self.mirror else None
        for problem in problems(gateway=self.gateway, tls=self.tls, mirror=share):
            msg = f"has {problem.field} {problem.value!r}, which {problem.reason}; {problem.fix}"
            raise ValueError(msg)
        return self
