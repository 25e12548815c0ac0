"""The pod network: a bridge, its CNI configuration, the kernel's settings, and the way out."""

import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from gpuserve_embedded.cluster import forwarding, mounted
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import (
    BRIDGE,
    CNI_NETWORK,
    JOURNAL,
    NFT_TABLE,
    NODE_IP,
    PODS,
    RUN,
    SERVICES,
    STATE,
)
from gpuserve_embedded.cluster.processes import boot_id, run

CNI_CONFIG: Final = STATE / "cni"
FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_FIX: Final = "check that this is root on a kernel with bridges and nftables (a container needs NET_ADMIN for both)"

_SET: Final = {
    "net/ipv4/ip_forward": "1",
    # A pod that calls a Service whose answer comes from a pod on the same bridge: the answer has to pass netfilter,
    # or it arrives from an address that was never asked.
    "net/bridge/bridge-nf-call-iptables": "1",
}

_CHANGED_BY_KUBERNETES: Final = (
    # By the kubelet: see setupKernelTunables in its container_manager_linux.go.
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    # By kube-proxy: see SetSysctls in its conntrack/sysctls.go.
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
)

KUBE_PROXY_TABLES: Final = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
"""What kube-proxy makes in nftables mode (pkg/proxy/nftables, ``kubeProxyTable``)."""

OUR_TABLES: Final = (("ip", NFT_TABLE), *KUBE_PROXY_TABLES)


def check_free() -> None:
    """Check that nobody else routes the cluster's addresses or runs Kubernetes' rules on this machine.

    Raises:
        ClusterError: somebody does; it names the interface and the addresses, or the rules.
    """
    for interface, routed in routes():
        for wanted in (PODS, SERVICES):
            if interface != BRIDGE and routed.prefixlen > 0 and routed.overlaps(wanted):
                raise ClusterError(
                    "check the network",
                    f"{wanted}",
                    f"this machine routes {routed} to {interface}",
                    "remove that route or interface, or run the cluster on another machine and give its kubeconfig",
                )
    strangers = [name for family, name in _existing() if (family, name) in KUBE_PROXY_TABLES]
    if strangers and not mounted.is_used(STATE):
        raise ClusterError(
            "check the network",
            f"nftables table {strangers[0]}",
            "another Kubernetes runs on this machine, or left its rules",
            "give that cluster's kubeconfig, or remove it and its rules",
        )


def routes() -> list[tuple[str, IPv4Network]]:
    """Return this machine's IPv4 routes: the interface and the addresses (the kernel's /proc/net/route)."""
    found: list[tuple[str, IPv4Network]] = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination, *_ = fields = line.split()
        address, mask = (IPv4Address(bytes.fromhex(text)[::-1]) for text in (destination, fields[7]))
        found.append((interface, IPv4Network(f"{address}/{mask}")))
    return found


def remember_settings() -> None:
    """Write down the kernel's settings before the cluster changes them, unless this boot's are written down already."""
    if _remembered() is not None:
        return
    values = {name: value for name in (*_SET, *_CHANGED_BY_KUBERNETES) if (value := _read(name)) is not None}
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    written = JOURNAL.with_suffix(".new")
    written.write_text(json.dumps({"boot": boot_id(), "settings": values}, indent=2))
    written.rename(JOURNAL)  # whole or not at all: half a journal could not be restored from


def restore_settings() -> None:
    """Put the kernel's settings back as they were; after a reboot there is nothing to put back."""
    for name, value in (_remembered() or {}).items():
        if _read(name) != value:
            with suppress(OSError):
                (Path("/proc/sys") / name).write_text(value)


def create() -> None:
    """Make the bridge, the pods' way out, the CNI configuration, and set what pods need of the kernel."""
    if not (Path("/sys/class/net") / BRIDGE).exists():
        run("create the pod bridge", ["ip", "link", "add", BRIDGE, "type", "bridge"], fix=_FIX)
    run("create the pod bridge", ["ip", "address", "replace", f"{NODE_IP}/{PODS.prefixlen}", "dev", BRIDGE], fix=_FIX)
    run("create the pod bridge", ["ip", "link", "set", BRIDGE, "up"], fix=_FIX)
    if _read("net/bridge/bridge-nf-call-iptables") is None:
        run("load br_netfilter", ["modprobe", "br_netfilter"], fix="install the kernel's modules (linux-modules-extra)")
    for name, value in _SET.items():
        (Path("/proc/sys") / name).write_text(value)
    run("create the nftables table", ["nft", "-f", "-"], stdin=_way_out(), fix=_FIX)
    forwarding.accept()
    CNI_CONFIG.mkdir(parents=True, exist_ok=True)
    (CNI_CONFIG / "10-gpuserve.conflist").write_text(json.dumps(cni_config(), indent=2))


def remove() -> None:
    """Remove the pods' interfaces, the bridge and the rules; what is not there is no error."""
    for link in links():
        with suppress(Exception):  # the peer of a link that went a moment ago is gone with it
            run("remove a link", ["ip", "link", "delete", link], fix=_FIX)
    forwarding.remove()
    for family, table in tables():
        run("remove an nftables table", ["nft", "delete", "table", family, table], fix=_FIX)


def links() -> list[str]:
    """Return the network interfaces of the cluster: those on its bridge first, then the bridge."""
    bridge = Path("/sys/class/net") / BRIDGE
    if not bridge.exists():
        return []
    return [*sorted(port.name for port in (bridge / "brif").iterdir()), BRIDGE]


def tables() -> list[tuple[str, str]]:
    """Return the nftables tables of the cluster that exist, as (family, name); none where this user is not told.

    Every Kubernetes names kube-proxy's alike, so they are ours only while the cluster's state is here, which is removed last.
    """
    return [table for table in _existing() if table not in KUBE_PROXY_TABLES or mounted.is_used(STATE)]


def cni_config() -> dict[str, object]:
    """Return the CNI configuration: a veth pair per pod on the bridge, addresses handed out on this node."""
    return {
        "cniVersion": "1.0.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isDefaultGateway": True,
                "hairpinMode": True,  # a pod may reach itself through its own Service
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(RUN / "cni"),
                    "ranges": [[{"subnet": str(PODS), "rangeStart": str(PODS[10]), "gateway": str(NODE_IP)}]],
                },
            }
        ],
    }


def _existing() -> list[tuple[str, str]]:
    if not forwarding.can_list():
        return []
    listed = run("list nftables", ["nft", "list", "tables"], fix=_FIX).splitlines()
    existing = {tuple(line.split()[1:3]) for line in listed}
    return [table for table in OUR_TABLES if table in existing]


def _way_out() -> str:
    # Adding and deleting first makes this the whole table, whatever an earlier run left.
    return f"""\
add table ip {NFT_TABLE}
delete table ip {NFT_TABLE}
table ip {NFT_TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {PODS} ip daddr != {{ {PODS}, {SERVICES} }} oifname != "{BRIDGE}" masquerade
  }}
}}
"""


def _remembered() -> dict[str, str] | None:
    with suppress(OSError, ValueError):
        journal = json.loads(JOURNAL.read_text())
        if journal["boot"] == boot_id():
            return dict(journal["settings"])
    return None


def _read(name: str) -> str | None:
    with suppress(OSError):
        return (Path("/proc/sys") / name).read_text().strip()
    return None
