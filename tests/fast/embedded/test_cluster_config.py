"""Configuration of the daemons and the network, as data."""

import ipaddress
import json
from pathlib import Path

import pytest

from gpuserve_embedded.cluster import (
    cgroups,
    containerd,
    control_plane,
    crds,
    forwarding,
    layout,
    network,
    node,
    processes,
    registry,
)
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.images import SYSTEM_IMAGES, tag
from gpuserve_embedded.cluster.status import daemons_serve
from gpuserve_embedded.tools.catalogue import CONTAINERD


def flags(daemon) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in daemon.command if str(argument).startswith("--"))


def test_nothing_but_the_bridge_and_loopback_is_listened_on(tmp_path) -> None:
    api = flags(control_plane.api_server(tmp_path / "kube"))
    assert api["bind-address"] == str(layout.NODE_IP)
    assert flags(control_plane.scheduler(tmp_path / "kube"))["bind-address"] == "127.0.0.1"
    assert flags(control_plane.controller_manager(tmp_path / "kube"))["bind-address"] == "127.0.0.1"
    assert registry.config(tmp_path)["http"] == {"addr": "127.0.0.1:5000"}
    assert registry.config(tmp_path, layout.PODS_REGISTRY)["http"] == {"addr": "10.244.0.1:5000"}
    assert node.kubelet_config()["address"] == str(layout.NODE_IP)


def test_the_kubelet_keeps_what_it_can_below_the_clusters_folders() -> None:
    config = node.kubelet_config()
    for key in ("podLogsDir", "volumePluginDir"):
        assert str(config[key]).startswith(str(layout.STATE))
    assert config["cgroupRoot"] == f"/{layout.CGROUP}"
    assert config["makeIPTablesUtilChains"] is False
    assert config["clusterDNS"] == [str(layout.DNS_IP)]


@pytest.mark.parametrize(
    ("resolved", "etc", "taken"),
    [
        (None, "search example.com\nnameserver 9.9.9.9\n", "etc"),
        ("nameserver 9.9.9.9\n", "nameserver 127.0.0.53\noptions edns0\n", "resolved"),
        ("# offline\n", "nameserver 127.0.0.53\n", "none"),
        (None, "nameserver\n\nnameserver ::1\n", "none"),
        (None, None, "none"),
    ],
)
def test_pods_ask_a_server_that_they_can_reach(resolved, etc, taken, tmp_path, monkeypatch) -> None:
    files = {"resolved": resolved, "etc": etc, "none": None}
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_text(content)
    monkeypatch.setattr(node, "_HOST_DNS", (tmp_path / "resolved", tmp_path / "etc"))
    monkeypatch.setattr(node, "_NO_DNS", tmp_path / "none")
    assert node.kubelet_config()["resolvConf"] == str(tmp_path / taken)


def test_kube_proxy_leaves_the_machines_connection_tracking_alone() -> None:
    config = node.kube_proxy_config()
    assert config["mode"] == "nftables"
    assert set(config["conntrack"].values()) == {0, "0s"}


def test_containerd_has_its_own_folders_sockets_and_shim() -> None:
    import tomllib

    config = tomllib.loads(containerd.config("localhost:5000/gpuserve/pause@sha256:0"))
    plugins = config["plugins"]
    runc = plugins["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"]
    assert config["root"].startswith(str(layout.STATE))
    assert config["temp"].startswith(str(layout.STATE))
    assert plugins["io.containerd.server.v1.grpc"]["address"] == str(layout.CONTAINERD_SOCKET)
    for place in (
        config["state"],
        plugins["io.containerd.server.v1.grpc"]["address"],
        plugins["io.containerd.server.v1.ttrpc"]["address"],
        plugins["io.containerd.shim.v1.manager"]["socket_dir"],
        runc["options"]["Root"],
    ):
        assert Path(place).is_relative_to(layout.RUN), place
    assert Path(runc["runtime_path"]).is_relative_to(layout.STATE)
    pinned = plugins["io.containerd.cri.v1.images"]["pinned_images"]
    assert pinned == {"sandbox": "localhost:5000/gpuserve/pause@sha256:0"}


def test_the_folder_of_shim_sockets_is_short_enough_for_containerd() -> None:
    """A socket's address has 108 bytes; containerd refuses a folder of more than 42 and does not start."""
    import tomllib

    manager = tomllib.loads(containerd.config("pause"))["plugins"]["io.containerd.shim.v1.manager"]
    assert len(manager["socket_dir"]) <= 42


def test_containerds_programs_are_those_that_were_built(tmp_path, monkeypatch) -> None:
    for name in ("_BIN", "_REGISTRIES"):
        monkeypatch.setattr(containerd, name, tmp_path / name)
    monkeypatch.setattr(containerd, "_CONFIG", tmp_path / "config.toml")
    for build in ("first", "second"):
        containerd.configure({name: tmp_path / build / name for name in containerd.PROGRAMS}, "pause")
    links = {link.name: link.readlink() for link in (tmp_path / "_BIN").iterdir()}
    assert links == {name: tmp_path / "second" / name for name in containerd.PROGRAMS}
    assert tuple(CONTAINERD.packages) == containerd.PROGRAMS


def test_a_machine_that_has_nothing_installed_yet_can_be_asked_whether_its_daemons_serve(monkeypatch) -> None:
    """`make up` asks it first of all: before the packages are there."""

    def refuse(command: list[str], **_: object) -> None:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("subprocess.run", refuse)
    monkeypatch.setattr(processes, "pid_of", lambda _: None)
    assert not daemons_serve()


def test_pod_addresses_are_handed_out_of_the_pod_range_and_never_the_nodes() -> None:
    bridge = network.cni_config()["plugins"][0]
    (address_range,) = bridge["ipam"]["ranges"][0]
    assert ipaddress.ip_network(address_range["subnet"]) == layout.PODS
    assert ipaddress.ip_address(address_range["gateway"]) == layout.NODE_IP
    assert ipaddress.ip_address(address_range["rangeStart"]) > layout.NODE_IP


def test_settings_are_restored_as_they_were_and_only_in_the_same_boot(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(network, "JOURNAL", tmp_path / "before.json")
    network.remember_settings()
    remembered = json.loads((tmp_path / "before.json").read_text())
    assert "net/ipv4/ip_forward" in remembered["settings"]
    network.remember_settings()  # a second start must not overwrite what the first one found
    assert json.loads((tmp_path / "before.json").read_text()) == remembered
    (tmp_path / "before.json").write_text(json.dumps({**remembered, "boot": "another"}))
    assert network._remembered() is None


def test_a_process_is_ours_by_its_control_group_alone() -> None:
    assert cgroups._OURS.match("0::/gpuserve/daemons/etcd")
    assert cgroups._OURS.match("4:memory:/gpuserve/kubepods/burstable/pod1")
    assert not cgroups._OURS.match("0::/gpuserve-of-somebody-else")
    assert not cgroups._OURS.match("0::/user.slice/gpuserve")


def test_an_images_tag_changes_with_its_program(tmp_path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    before = tag(SYSTEM_IMAGES[0], program)
    assert before == tag(SYSTEM_IMAGES[0], program)
    assert before != tag(SYSTEM_IMAGES[1], program)
    program.write_bytes(b"another")
    assert before != tag(SYSTEM_IMAGES[0], program)


def test_definitions_are_read_once_and_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.yaml").write_text(
        "kind: CustomResourceDefinition\nspec: {names: {kind: Probe}, default: =}\nstatus: {conditions: []}\n"
        "---\nkind: Other\n"
        "---\nkind: CustomResourceDefinition\nspec: {names: {kind: Prometheus}}\n"
    )
    found = crds.definitions("prometheus-operator", lambda _: source)
    assert found == [{"kind": "CustomResourceDefinition", "spec": {"names": {"kind": "Probe"}, "default": "="}}]
    assert crds.definitions("prometheus-operator", lambda _: source) == found
    assert len(list((tmp_path / "cache" / "gpuserve" / "crds").iterdir())) == 1


def test_an_error_has_four_parts_and_the_log() -> None:
    error = ClusterError("start etcd", "etcd", "it ended", "mend it", log=["one", "two"])
    assert str(error) == "start etcd: etcd: it ended.\n  fix: mend it\n  last lines of the log:\n    one\n    two"


@pytest.mark.parametrize("name", ["XDG", "home"])
def test_the_cache_is_where_the_user_keeps_caches(name, tmp_path, monkeypatch) -> None:
    if name == "XDG":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert layout.cache_folder() == tmp_path / "gpuserve"
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert layout.cache_folder() == tmp_path / ".cache" / "gpuserve"


ROUTES = """\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0
{interface} {destination} 00000000 0001 0 0 0 {mask} 0 0 0
"""


@pytest.mark.parametrize(
    ("interface", "destination", "mask", "refused"),
    [
        ("eth0", "0000A8C0", "0000FFFF", None),
        ("gpuserve0", "0000F40A", "0000FFFF", None),
        ("cni0", "0001F40A", "00FFFFFF", r"this machine routes 10\.244\.1\.0/24 to cni0"),
        ("tun0", "0000000A", "000000FF", r"this machine routes 10\.0\.0\.0/8 to tun0"),
    ],
)
def test_addresses_that_are_routed_elsewhere_are_refused(monkeypatch, interface, destination, mask, refused) -> None:
    text = ROUTES.format(interface=interface, destination=destination, mask=mask)
    monkeypatch.setattr(network.Path, "read_text", lambda _: text)
    monkeypatch.setattr(network, "_existing", list)
    if refused is None:
        network.check_free()
    else:
        with pytest.raises(ClusterError, match=refused):
            network.check_free()


def test_the_rules_of_another_kubernetes_are_refused_but_not_our_own(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(network, "routes", list)
    monkeypatch.setattr(network, "_existing", lambda: [("ip", "gpuserve"), ("ip", "kube-proxy")])
    monkeypatch.setattr(network, "STATE", tmp_path / "absent")
    with pytest.raises(ClusterError, match="another Kubernetes"):
        network.check_free()
    assert network.tables() == [("ip", "gpuserve")]  # which are all that a stop removes
    monkeypatch.setattr(network, "STATE", tmp_path)
    network.check_free()
    assert network.tables() == [("ip", "gpuserve"), ("ip", "kube-proxy")]


def test_another_user_than_root_is_told_of_no_tables(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise AssertionError

    monkeypatch.setattr(forwarding, "is_root", lambda: False)
    for module in (network, forwarding):
        monkeypatch.setattr(module, "run", refuse)
    assert network.tables() == forwarding.rules() == []
