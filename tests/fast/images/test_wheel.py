"""What an installation without a checkout has: the wheel's own files, and the same names for the same images."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.wheel import WheelBuilder

from gpuserve_images.bases.recipes import RECIPES

ROOT = Path(__file__).parents[3]
ASKED = """
import json
from gpuserve_images.bases import recipes, serving
from gpuserve_images.builder import image
from gpuserve_images.records import sha256_file
code = [[name, image._mode(path), sha256_file(path)] for name, path in image._code()]
print(json.dumps([str(recipes.RECIPES), serving.base_identity("triton-cpu"), serving.base_identity("builder"), code]))
"""


def _install(wheel: Path, folder: Path) -> None:
    """Unpack with the modes, as pip does."""
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            path = Path(archive.extract(item, folder))
            path.chmod(0o755 if item.external_attr >> 16 & 0o100 else 0o644)


def _asked(folder: Path, *paths: Path) -> list[Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_an_installed_wheel_builds_the_same_images(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    site = tmp_path / "site"
    _install(Path(wheel), site)
    recipes, *installed = _asked(tmp_path, site)
    assert Path(recipes) == site / "gpuserve_recipes"
    here, *checkout = _asked(tmp_path, ROOT / "components", ROOT / "model_images")
    assert Path(here) == RECIPES == ROOT / "model_images"
    assert {path.name for path in Path(recipes).iterdir()} == {path.parent.name for path in RECIPES.glob("*/Dockerfile")}
    assert installed == checkout
