"""What a run of Pulumi that fails says, and what to do about it."""

from pathlib import Path

import pytest

from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.run.pulumi import Pulumi


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions", "`pulumi login`"),
        ("error: the disk is full", "mend what the lines below name and run it again"),
    ],
)
def test_the_fix_is_for_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fix: str) -> None:
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ClusterError) as caught:
        Pulumi(tmp_path, "dev", {}, tmp_path / "log").select(print)
    assert fix in str(caught.value)
    assert said in str(caught.value)
    assert said in (tmp_path / "log").read_text()


def test_notes_that_a_killed_engine_half_wrote_are_removed_before_the_state_is_read(tmp_path, monkeypatch) -> None:
    program = tmp_path / "pulumi"
    program.write_text("#!/bin/sh\ncat state/.pulumi/stacks/p/*.attrs\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    stacks = tmp_path / "state" / ".pulumi" / "stacks" / "p"
    stacks.mkdir(parents=True)
    for name, notes in (("whole", '{"md5": ""}'), ("empty", ""), ("half", '{"md5":')):
        (stacks / f"{name}.json").write_text("{}")
        (stacks / f"{name}.json.attrs").write_text(notes)
    variables = {"PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}"}
    Pulumi(tmp_path, "whole", variables, tmp_path / "log").select(print)
    assert sorted(path.name for path in stacks.iterdir()) == ["empty.json", "half.json", "whole.json", "whole.json.attrs"]
    assert (tmp_path / "log").read_text().count("md5") == 1
