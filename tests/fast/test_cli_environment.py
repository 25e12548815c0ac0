"""What a plain shell takes over from `make up`."""

import os
from pathlib import Path

import pytest

from gpuserve.cli.environment import additions, adopt_environment


def test_the_environment_wins_over_the_file() -> None:
    wanted = {"KUBECONFIG": "/embedded", "PULUMI_BACKEND_URL": "file:///state"}
    assert additions(wanted, {"KUBECONFIG": "/own"}) == {"PULUMI_BACKEND_URL": "file:///state"}


def test_folders_are_put_in_front_of_the_path_once() -> None:
    added = additions({"PATH": "/checkout/bin:/usr/bin"}, {"PATH": "/usr/bin:/bin"})
    assert added == {"PATH": "/checkout/bin:/usr/bin:/bin"}
    assert additions({"PATH": "/checkout/bin:/usr/bin"}, added) == added


def test_the_nearest_checkout_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    below = tmp_path / "stacks" / "models"
    below.mkdir(parents=True)
    adopt_environment(below)
    assert os.environ == {"PATH": "/bin"}
    (tmp_path / ".gpuserve").mkdir()
    (tmp_path / ".gpuserve" / "env").write_text("# made by make up\nPATH=/x\nKUBECONFIG=/a=b\n\n")
    adopt_environment(below)
    assert os.environ == {"PATH": "/x:/bin", "KUBECONFIG": "/a=b"}


def test_hosts_that_no_proxy_reaches_are_added_to_the_shells_own() -> None:
    wanted = {"NO_PROXY": "localhost,10.96.0.0/16"}
    assert additions(wanted, {"NO_PROXY": "example.com,localhost"}) == {"NO_PROXY": "10.96.0.0/16,example.com,localhost"}


@pytest.mark.parametrize("refused", ["read_text", "is_file"])
def test_what_this_user_may_not_read_is_not_taken_over(refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sudo make up` leaves a file of root's."""
    (tmp_path / ".gpuserve").mkdir()
    (tmp_path / ".gpuserve" / "env").write_text("KUBECONFIG=/embedded\n")

    def refuse(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    monkeypatch.setattr(Path, refused, refuse)
    adopt_environment(tmp_path)
    assert os.environ == {"PATH": "/bin"}


def test_a_working_folder_that_was_deleted_is_in_no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    adopt_environment()
