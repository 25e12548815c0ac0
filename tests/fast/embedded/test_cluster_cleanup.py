"""What belongs to the cluster in folders that it shares with others, and what does not."""

from pathlib import Path

import pytest

from gpuserve_embedded.cluster import cleanup


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


def test_mount_points_with_spaces_are_found_deepest_last(monkeypatch, shared) -> None:
    run, state = shared["RUN"], shared["STATE"]
    table = (
        f"tmpfs / tmpfs rw 0 0\ntmpfs {run} tmpfs rw 0 0\ntmpfs {state}/a\\040b tmpfs rw 0 0\ntmpfs {run}-other tmpfs rw 0 0\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda _: table)
    assert cleanup.mounts() == [run, state / "a b"]
