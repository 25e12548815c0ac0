"""The house: imports go in one direction, and the library never needs the embedded engine."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "gpuserve": ROOT / "components/gpuserve",
    "gpuserve_images": ROOT / "model_images/gpuserve_images",
    "gpuserve_policies": ROOT / "policies/gpuserve_policies",
    "gpuserve_embedded": ROOT / "embedded/gpuserve_embedded",
}
COMPONENTS = ("node_pool", "serving", "traffic", "autoscaling", "monitoring")
SHARED = "gpuserve.kubernetes"
ALLOWED = {
    SHARED: (SHARED,),
    **{f"gpuserve.{part}": (SHARED, f"gpuserve.{part}") for part in COMPONENTS},
    "gpuserve.platform": (SHARED, "gpuserve.platform", "gpuserve_images", *(f"gpuserve.{part}" for part in COMPONENTS)),
    "gpuserve.cli": ("gpuserve", "gpuserve_images", "gpuserve_policies"),
    "gpuserve_images": (SHARED, "gpuserve_images"),
    "gpuserve_policies": (SHARED, "gpuserve_policies"),
    "gpuserve_embedded": ("gpuserve", "gpuserve_images", "gpuserve_embedded"),
}


def _modules():
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


def _imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module)


def _room(module: str) -> str | None:
    rooms = [room for room in ALLOWED if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len, default=None)


@pytest.mark.parametrize(("module", "path"), list(_modules()))
def test_imports_go_in_one_direction(module, path):
    room = _room(module)
    if room is None:
        assert module == "gpuserve"
        return
    for imported in _imports(path):
        if imported.split(".")[0] in SOURCES:
            allowed = any(imported == prefix or imported.startswith(f"{prefix}.") for prefix in ALLOWED[room])
            assert allowed, f"{module} imports {imported}; {room} may import {ALLOWED[room]}"


def test_what_the_guide_names_is_there():
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert named
    assert [place for place in sorted(named) if not (ROOT / place).exists()] == []


def test_every_component_has_the_same_rooms():
    for part in COMPONENTS:
        present = {path.name for path in (SOURCES["gpuserve"] / part).iterdir()}
        assert {"spec.py", "manifests.py", "component.py"} <= present, part
