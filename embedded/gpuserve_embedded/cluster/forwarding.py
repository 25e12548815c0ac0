"""The pods' way through this machine's firewall, where it drops what is forwarded: Docker and ufw have it so.

What is forwarded passes every chain of the kernel's forward hook, and one that drops it has the last word, so the pods are let
through in that very chain. Each rule bears the cluster's mark, by which it is found again and nobody else's is touched.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gpuserve_embedded.cluster.layout import BRIDGE
from gpuserve_embedded.cluster.ports import is_root
from gpuserve_embedded.cluster.processes import run, search_path

_MARK: Final = "gpuserve"
_FAMILIES: Final = ("ip", "inet")
_WAYS: Final = ("iifname", "oifname")
_FIX: Final = f"let the interface {BRIDGE} through in that chain, in both directions, or give the kubeconfig of another cluster"

_LEGACY: Final = "iptables-legacy"
_LEGACY_CHAIN: Final = "FORWARD"
_LEGACY_WAYS: Final = ("-i", "-o")
_LEGACY_TABLES: Final = Path("/proc/net/ip_tables_names")
"""The old iptables' tables, which nftables does not show. To ask the program would make them where there are none."""


def accept() -> None:
    """Let the pods through every chain that drops what is forwarded; does nothing where they are let through already.

    Raises:
        ClusterError: a chain would not take the rules; it names the command.
    """
    if not can_list():
        return
    for place, policy in _chains():
        if policy == "drop" and len(_rules_in(place)) < len(_WAYS):
            for way in _WAYS:
                rule = [way, BRIDGE, "counter", "accept", "comment", f'"{_MARK}"']
                run("let pods through the firewall", ["nft", "insert", "rule", *place, *rule], fix=_FIX)
    if f"-P {_LEGACY_CHAIN} DROP" in _legacy_lines() and len(_legacy_rules()) < len(_LEGACY_WAYS):
        for way in _LEGACY_WAYS:
            run("let pods through the firewall", [_LEGACY, "-w", "-I", *_legacy_rule(way)], fix=_FIX)


def remove() -> None:
    """Remove the cluster's rules from others' chains."""
    for command in rules():
        run("remove a rule of the firewall", command, fix="run the same command again")


def rules() -> list[list[str]]:
    """Return the cluster's rules in others' chains, each as the command that removes it."""
    if not can_list():
        return []
    return [*(rule for place, _ in _chains() for rule in _rules_in(place)), *_legacy_rules()]


def can_list() -> bool:
    """Return whether nftables tells this user what is there: nothing is installed yet on a bare machine, and it tells only root."""
    return is_root() and shutil.which("nft", path=search_path()) is not None


def _chains() -> Iterator[tuple[tuple[str, str, str], str]]:
    """Return each chain that all IPv4 that is forwarded passes: its family, table and name; and its policy."""
    for chain in _listed("chain", "chains"):
        if chain.get("hook") == "forward" and chain["family"] in _FAMILIES:
            yield (chain["family"], chain["table"], chain["name"]), chain.get("policy", "accept")


def _rules_in(place: tuple[str, str, str]) -> list[list[str]]:
    return [
        ["nft", "delete", "rule", *place, "handle", str(rule["handle"])]
        for rule in _listed("rule", "chain", *place)
        if rule.get("comment") == _MARK
    ]


def _listed(kind: str, *what: str) -> list[dict[str, Any]]:
    answer = json.loads(run("list nftables", ["nft", "-j", "list", *what], fix=_FIX))
    return [entry[kind] for entry in answer["nftables"] if kind in entry]


def _legacy_rules() -> list[list[str]]:
    found = _legacy_lines()
    wanted = [_legacy_rule(way) for way in _LEGACY_WAYS]
    return [[_LEGACY, "-w", "-D", *rule] for rule in wanted for line in found if line == f"-A {' '.join(rule)}"]


def _legacy_rule(way: str) -> list[str]:
    return [_LEGACY_CHAIN, way, BRIDGE, "-m", "comment", "--comment", _MARK, "-j", "ACCEPT"]


def _legacy_lines() -> list[str]:
    with suppress(OSError):
        if "filter" in _LEGACY_TABLES.read_text().split() and shutil.which(_LEGACY, path=search_path()):
            return run("list iptables", [_LEGACY, "-w", "-S", _LEGACY_CHAIN], fix=_FIX).splitlines()
    return []
