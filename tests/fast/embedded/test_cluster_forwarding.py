"""Pods pass a firewall that drops what is forwarded, and nobody else's rules change: seen in a network of the test's own."""

import json
import shutil
import subprocess
import sys

import pytest

from gpuserve_embedded.cluster import forwarding
from gpuserve_embedded.cluster.processes import search_path

PRIVATE = ["unshare", "--map-root-user", "--net", "--mount"]
FIREWALL = """
table ip filter {
  chain DOCKER-USER { }
  chain FORWARD { type filter hook forward priority filter; policy drop; counter jump DOCKER-USER; }
  chain INPUT { type filter hook input priority filter; policy drop; }
}
table inet other {
  chain forward {
    type filter hook forward priority 10; policy drop;
    iifname "gpuserve0" accept comment "of the user"
  }
}
table ip open {
  chain forward { type filter hook forward priority 20; policy accept; }
}
table ip6 filter {
  chain FORWARD { type filter hook forward priority filter; policy drop; }
}
"""
LIFE = """
import subprocess
from gpuserve_embedded.cluster import forwarding

def show():
    print(subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout, end="====\\n")

subprocess.run(["nft", "-f", "-"], input=FIREWALL, text=True, check=True)
show()
for _ in range(2):
    forwarding.accept()
    show()
print(*map(" ".join, forwarding.rules()), sep="\\n", end="\\n====\\n")
forwarding.remove()
show()
"""


def is_possible() -> bool:
    if not all(shutil.which(name, path=search_path()) for name in ("unshare", "nft")):
        return False
    return subprocess.run([*PRIVATE, "nft", "list", "tables"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not is_possible(), reason="this machine lets nobody make networks, or has no nft")
def test_every_chain_that_drops_lets_pods_through_until_they_are_gone():
    program = f"FIREWALL = {FIREWALL!r}\n{LIFE}"
    done = subprocess.run([*PRIVATE, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, opened, again, listed, after, _ = done.stdout.split("====\n")
    added = [line.split() for line in opened.splitlines() if 'comment "gpuserve"' in line]
    assert [words[:2] for words in added] == [["oifname", '"gpuserve0"'], ["iifname", '"gpuserve0"']] * 2
    assert all("accept" in words for words in added)
    assert again == opened
    assert [line.rpartition(" handle")[0] for line in listed.splitlines()] == [
        *["nft delete rule ip filter FORWARD"] * 2,
        *["nft delete rule inet other forward"] * 2,
    ]
    assert after == before


OLD = ["-P FORWARD DROP", "-A FORWARD -j DOCKER-USER"]


@pytest.fixture
def old_iptables(tmp_path, monkeypatch):
    """A machine whose rules nftables does not show."""
    lines = list(OLD)

    def run(_step, command, **_):
        if command[0] == "nft":
            return json.dumps({"nftables": []})
        assert command[:2] == ["iptables-legacy", "-w"]
        verb, chain, *rule = command[2:]
        words = " ".join(["-A", chain, *rule])
        if verb == "-I":
            lines.insert(1, words)
        elif verb == "-D":
            lines.remove(words)
        return "\n".join(lines)

    (tmp_path / "names").write_text("nat\nfilter\n")
    monkeypatch.setattr(forwarding, "_LEGACY_TABLES", tmp_path / "names")
    monkeypatch.setattr(forwarding, "run", run)
    monkeypatch.setattr(forwarding, "can_list", lambda: True)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/sbin/found")
    return lines


def test_the_old_iptables_lets_pods_through_until_they_are_gone(old_iptables):
    for _ in range(2):
        forwarding.accept()
        assert len(old_iptables) == len(OLD) + 2
    assert len(forwarding.rules()) == 2
    forwarding.remove()
    assert old_iptables == OLD


def test_an_old_iptables_that_lets_all_through_is_left_alone(old_iptables):
    old_iptables[0] = "-P FORWARD ACCEPT"
    forwarding.accept()
    assert forwarding.rules() == []
