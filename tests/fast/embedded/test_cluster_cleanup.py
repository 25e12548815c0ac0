"""What belongs to the cluster in folders that it shares with others, and what does not."""

import os
from pathlib import Path

import pytest

from gpuserve_embedded.cluster import cleanup, mounted


@pytest.fixture
def shared(tmp_path, monkeypatch):
    folders = {
        "DEVICE_PLUGINS": tmp_path / "device-plugins",
        "CONTAINER_LOG_LINKS": tmp_path / "containers",
        "CNI_RESULTS": tmp_path / "results",
        "STATE": tmp_path / "state",
        "RUN": tmp_path / "run",
    }
    for name, folder in folders.items():
        monkeypatch.setattr(cleanup, name, folder)
        folder.mkdir()
    monkeypatch.setattr(cleanup, "_SHARED_FOLDERS", tuple(folders[name] for name in list(folders)[:3]))
    return folders


def test_nothing_is_ours_in_empty_or_absent_folders(shared) -> None:
    assert cleanup._shared_leftovers() == []
    for folder in shared.values():
        folder.rmdir()
    assert cleanup._shared_leftovers() == []


def test_only_links_to_our_logs_are_ours(shared) -> None:
    ours, others = (shared["CONTAINER_LOG_LINKS"] / name for name in ("ours.log", "others.log"))
    ours.symlink_to(shared["STATE"] / "pod-logs" / "0.log")
    others.symlink_to("/var/log/pods/0.log")
    assert cleanup._shared_leftovers() == [ours]


def test_only_results_about_our_network_namespaces_are_ours(shared) -> None:
    ours, others = (shared["CNI_RESULTS"] / name for name in ("cni-loopback-1-lo", "cni-loopback-2-lo"))
    ours.write_text(f'{{"sandbox": "{shared["RUN"]}/containerd/netns/1"}}')
    others.write_text('{"sandbox": "/run/netns/2"}')
    assert cleanup._shared_leftovers() == [ours]


def test_the_kubelets_files_are_ours_where_no_other_device_plugin_was(shared) -> None:
    for name in ("kubelet.sock", "kubelet_internal_checkpoint", "gpuserve-simulated-gpus.sock"):
        (shared["DEVICE_PLUGINS"] / name).touch()
    assert len(cleanup._shared_leftovers()) == 3
    (shared["DEVICE_PLUGINS"] / "nvidia-gpu.sock").touch()
    assert [path.name for path in cleanup._shared_leftovers()] == ["gpuserve-simulated-gpus.sock"]


def test_the_kubelets_files_are_another_kubernetes_where_no_cluster_of_ours_was(shared, mount) -> None:
    for name in ("kubelet.sock", "kubelet_internal_checkpoint", "gpuserve-simulated-gpus.sock"):
        (shared["DEVICE_PLUGINS"] / name).touch()
    mount(shared["STATE"])  # a larger disk, on which nothing is yet
    assert [path.name for path in cleanup._shared_leftovers()] == ["gpuserve-simulated-gpus.sock"]
    (shared["STATE"] / "before.json").touch()
    assert len(cleanup._shared_leftovers()) == 3
    (shared["STATE"] / "before.json").unlink()
    shared["STATE"].rmdir()
    assert [path.name for path in cleanup._shared_leftovers()] == ["gpuserve-simulated-gpus.sock"]


def test_another_user_is_told_what_it_may_see(shared, monkeypatch) -> None:
    (shared["CNI_RESULTS"] / "cni-loopback-1-lo").touch()

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert cleanup._shared_leftovers() == []
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert cleanup._shared_leftovers() == []


@pytest.fixture
def mount(monkeypatch):
    """Mount something, as far as the kernel's table tells."""
    table = [b"tmpfs / tmpfs rw 0 0"]
    read = Path.read_bytes
    at_mounts = "/proc/self/mounts"
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"\n".join([*table, b""]) if str(path) == at_mounts else read(path))

    def mounted_at(place):
        escaped = os.fsencode(place).replace(b"\\", rb"\134").replace(b" ", rb"\040")
        table.append(b"tmpfs %s tmpfs rw 0 0" % escaped)

    return mounted_at


def test_mount_points_below_our_folders_are_found_deepest_last(mount, shared) -> None:
    run, state = shared["RUN"], shared["STATE"]
    ours = [run / "netns", state / "a b", state / "größer", state / "a b" / "back\\slash"]
    for place in (run, state, Path(f"{run}-other"), *ours):
        mount(place)
    assert cleanup.mounts() == ours


def test_a_name_that_is_no_text_is_found_too(mount, shared) -> None:
    odd = shared["RUN"] / os.fsdecode(b"\xff")
    mount(odd)
    assert cleanup.mounts() == [odd]


def test_a_disk_that_was_mounted_for_the_cluster_is_emptied_and_stays(mount, shared) -> None:
    state = shared["STATE"]
    mount(state)
    (state / "lost+found").mkdir()
    (state / "etcd" / "member").mkdir(parents=True)
    (state / "kubeconfig").touch()
    (state / "link").symlink_to(state / "etcd")
    assert mounted.is_used(state)
    cleanup._remove_tree(state)
    assert [path.name for path in state.iterdir()] == ["lost+found"]
    assert not mounted.is_used(state)
    cleanup._remove_tree(state)  # and again is no error


def test_a_folder_that_is_no_mount_point_is_removed(shared) -> None:
    (shared["STATE"] / "etcd").mkdir()
    cleanup._remove_tree(shared["STATE"])
    assert not shared["STATE"].exists()
    cleanup._remove_tree(shared["STATE"])


def test_the_state_that_says_what_is_ours_is_removed_last(shared, monkeypatch) -> None:
    """A stop that was killed at any point before is completed by the next."""
    done = []

    def note(name, answer=None):
        return lambda *_: done.append((name, shared["STATE"].exists())) or answer

    monkeypatch.setattr(cleanup.processes, "stop", note("stop"))
    monkeypatch.setattr(cleanup.cgroups, "kill_all", note("kill"))
    monkeypatch.setattr(cleanup.cgroups, "remove", note("groups"))
    monkeypatch.setattr(cleanup.mounted, "unmount", note("unmount"))
    monkeypatch.setattr(cleanup.image_builds, "remove", note("builds"))
    monkeypatch.setattr(cleanup.network, "remove", note("network"))
    monkeypatch.setattr(cleanup.network, "restore_settings", note("settings"))
    monkeypatch.setattr(cleanup.packages, "refusal", note("refusal", []))
    (shared["DEVICE_PLUGINS"] / "kubelet.sock").touch()
    cleanup.remove_everything()
    assert {name for name, _ in done} >= {"network", "settings", "groups"}
    assert all(state_was_there for _, state_was_there in done)
    assert not any(folder.exists() for folder in shared.values())
