"""What `make` would run."""

import os
import subprocess
from pathlib import Path

import pytest

from gpuserve_embedded.tools.catalogue import KUBERNETES_PROVIDER_VERSION

ROOT = Path(__file__).parents[2]


def recipe(*arguments: str) -> list[str]:
    """Return the lines, of which none is run; whether the environment has to be installed first is left out."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "--assume-old=.venv/.installed", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_tests_are_run_when_all_that_they_need_is_there():
    prepare, tests = recipe("test")
    assert prepare.endswith("-m gpuserve_embedded prepare --tests")
    folders = [path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))]
    assert "-m pytest" in tests
    assert [folder for folder in folders if f"tests/{folder}" not in tests] == ["gpu"]


def test_the_quick_tests_are_those_of_the_same_folders():
    (quick,) = recipe("test-fast")
    (_, tests) = recipe("test")
    assert [word for word in quick.split() if word.startswith("tests/")] == [
        word for word in tests.split() if word.startswith("tests/")
    ]


def test_the_tests_of_a_gpu_are_a_command_of_their_own_with_its_extra():
    install, *_, tests = recipe("test-gpu")
    assert '["optional-dependencies"]["tensorrt"]' in install
    assert tests.endswith("-m pytest tests/gpu")


@pytest.mark.parametrize("target", ["up", "down"])
def test_names_with_spaces_stay_one_word(target):
    (line,) = recipe(target, "FILE=my file", "STACK=my stack")
    assert '--stack "my stack"' in line
    assert ('--file "my file"' in line) is (target == "up")


def test_the_readme_names_the_provider_that_is_used():
    assert f"pulumi plugin install resource kubernetes {KUBERNETES_PROVIDER_VERSION}`" in (ROOT / "README.md").read_text()
