"""The examples of docs/first-model.md are run as they stand, in their order, in a folder with nothing but the model and its data."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from e2e_small_model import FEATURES, classifier
from typer.testing import CliRunner

from gpuserve.cli.main import app

pytestmark = pytest.mark.slow  # whole builds

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "first-model.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)


def _run(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.output


def _write(text: str) -> None:
    """Put a YAML of the document where it says: a model, a stack file, or an edit of its one service."""
    data: dict[str, Any] = yaml.safe_load(text)
    stack = Path("stacks/Pulumi.dev.yaml")
    if "source" in data:
        Path(f"stacks/models/{data['name']}.yaml").write_text(text)
    elif "config" in data:
        stack.write_text(text)
    else:
        written = yaml.safe_load(stack.read_text())
        written["config"]["gpuserve:platform"]["services"][0].update(data)
        stack.write_text(yaml.safe_dump(written))
        assert "all rules hold" in _run("gpuserve check -s dev")


def test_the_document_works_from_beginning_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)
    Path("stacks/models").mkdir(parents=True)
    onnx.save(classifier(), "stacks/models/fraud.onnx")
    np.save("rows.npy", np.random.default_rng(1).normal(size=(96, FEATURES)))
    for language, text in BLOCKS:
        if language == "yaml":
            _write(text)
        elif language == "python":
            exec(text, {})  # noqa: S102 - the document's own program
        else:
            for line in text.splitlines():
                _run(line.removeprefix("$ "))
    assert '"x"' in Path("first/signature.json").read_text()
    assert "top-1" in Path("int8/report.html").read_text()
    assert "kind: HTTPRoute" in Path("dev.yaml").read_text()
    assert "0 kept" in _run("gpuserve images ls")


def test_links_lead_to_headings_that_are_there() -> None:
    for target, heading in re.findall(r"\]\(([\w./-]+\.md)(?:#([\w-]+))?\)", DOC):
        text = (ROOT / "docs" / target).read_text()
        slugs = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        assert not heading or heading in slugs, (target, heading)
