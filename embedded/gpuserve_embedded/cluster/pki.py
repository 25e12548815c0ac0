"""Certificates and keys of the cluster, made anew for each cluster (the layout of kubeadm's ``/etc/kubernetes/pki``)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpuserve_embedded.cluster.layout import (
    API_SERVER,
    CLUSTER_DOMAIN,
    KUBECONFIG,
    KUBERNETES_IP,
    LOOPBACK,
    NODE,
    NODE_IP,
    PKI,
    STATE,
)

VALIDITY: Final = timedelta(days=365)
"""A year, kubeadm's choice for leaf certificates; the cluster and its certificates end together, long before."""

_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Leaf:
    """A certificate to be issued: who it is for, and where it may be used.

    Attributes:
        name: file name without its ending.
        common_name: the user, for a client; Kubernetes reads it so.
        groups: the user's groups (``O`` of the subject).
        hosts: DNS names and addresses of a server; empty for one that is a client only.
    """

    name: str
    common_name: str
    groups: Sequence[str] = ()
    hosts: Sequence[str | IPv4Address] = ()


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, leaf: Leaf) -> tuple[bytes, bytes]:
        """Return a certificate and its key, both as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if leaf.hosts:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(_name(leaf.common_name, leaf.groups), self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if leaf.hosts:
            names = [_general_name(host) for host in leaf.hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


CLUSTER_LEAVES: Final = (
    Leaf(
        "apiserver",
        "kube-apiserver",
        hosts=(
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
            "localhost",
            LOOPBACK,
            NODE_IP,
            KUBERNETES_IP,
        ),
    ),
    Leaf("apiserver-kubelet-client", "kube-apiserver-kubelet-client", groups=("system:masters",)),
    Leaf("kubelet-server", f"system:node:{NODE}", hosts=(NODE, NODE_IP)),
    Leaf("admin", "gpuserve-admin", groups=("system:masters",)),
    Leaf("kubelet", f"system:node:{NODE}", groups=("system:nodes",)),
    Leaf("controller-manager", "system:kube-controller-manager", hosts=(LOOPBACK,)),
    Leaf("scheduler", "system:kube-scheduler", hosts=(LOOPBACK,)),
    Leaf("kube-proxy", "system:kube-proxy"),
    Leaf(
        "prometheus-adapter",
        "prometheus-adapter.monitoring.svc",
        hosts=("prometheus-adapter.monitoring.svc", f"prometheus-adapter.monitoring.svc.{CLUSTER_DOMAIN}"),
    ),
)
"""Names and groups are those that Kubernetes binds roles to by default."""

ETCD_LEAVES: Final = (Leaf("etcd", "etcd", hosts=("localhost", LOOPBACK)), Leaf("etcd-client", "kube-apiserver"))
FRONT_PROXY_LEAVES: Final = (Leaf("front-proxy-client", "front-proxy-client"),)

KUBECONFIG_USERS: Final = ("kubelet", "controller-manager", "scheduler", "kube-proxy")


def create() -> None:
    """Write every certificate, key and kubeconfig of a new cluster; a key's file is readable by root alone."""
    PKI.mkdir(parents=True, exist_ok=True)
    for authority, leaves in (("ca", CLUSTER_LEAVES), ("etcd-ca", ETCD_LEAVES), ("front-proxy-ca", FRONT_PROXY_LEAVES)):
        issuer = new_authority(f"gpuserve {authority}")
        (PKI / f"{authority}.crt").write_bytes(issuer.certificate.public_bytes(serialization.Encoding.PEM))
        for leaf in leaves:
            certificate, key = issuer.issue(leaf)
            (PKI / f"{leaf.name}.crt").write_bytes(certificate)
            write_private(PKI / f"{leaf.name}.key", key)
    signer = ec.generate_private_key(ec.SECP256R1())
    write_private(PKI / "service-accounts.key", _pem(signer))
    (PKI / "service-accounts.pub").write_bytes(
        signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for user in KUBECONFIG_USERS:
        write_private(kubeconfig_of(user), kubeconfig(user).encode())
    write_private(KUBECONFIG, kubeconfig("admin").encode())


def kubeconfig_of(user: str) -> Path:
    """Return where a component's kubeconfig lies."""
    return STATE / "kubeconfigs" / user


def kubeconfig(user: str) -> str:
    """Return a kubeconfig, certificates included, so that the one file is all that a client needs."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "gpuserve",
                    "cluster": {
                        "server": API_SERVER,
                        "certificate-authority-data": _base64(PKI / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _base64(PKI / f"{user}.crt"),
                        "client-key-data": _base64(PKI / f"{user}.key"),
                    },
                }
            ],
            "contexts": [{"name": "gpuserve", "context": {"cluster": "gpuserve", "user": user}}],
            "current-context": "gpuserve",
        },
        sort_keys=False,
    )


def new_authority(common_name: str) -> Authority:
    """Return a new certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name, ())
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that was never readable by anybody but its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _name(common_name: str, groups: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str | IPv4Address) -> x509.GeneralName:
    return x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
