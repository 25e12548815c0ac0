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
