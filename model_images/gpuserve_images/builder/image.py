"""The image that builds: a recipe's packages, and gpuserve's own code as one small layer on top."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve_images.bases.recipes import RECIPES, ensure_base
from gpuserve_images.compile.builders import PACKAGES
from gpuserve_images.oci import File, ImageConfig, Layer, bake, resolve
from gpuserve_images.records import Progress, sha256_file, sha256_json

RECIPE = "builder"
TENSORRT = "tensorrt"
"""The tool that has an image of its own, because it has gigabytes and comes from NVIDIA's index."""

_PACKAGES = {"builder": ("requirements.txt",), "builder-tensorrt": ("requirements.txt", "tensorrt.txt")}
"""Target of the recipe -> its lists of packages."""

_HOME = "/opt/gpuserve"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", re.MULTILINE)
_TAG_CHARACTERS = 40


def ensure_image(registry: str, tools: Iterable[str], progress: Progress) -> str:
    """Return the builder's image by digest; it is made and pushed when the registry lacks it.

    Args:
        registry: Registry and path prefix of the models; the image goes to the same registry.
        tools: What the build depends on; TensorRT has an image of its own.
        progress: Told about each step.

    Raises:
        BaseImageError: When buildah is missing or fails.
        RegistryError: When the registry is down or refuses.
    """
    host, made = registry.split("/", 1)[0], _target(tools)
    base = ensure_base(RECIPE, host, lambda line: progress(f"builder: {line}", 0, 0), target=made)
    sources = dict(_code())
    # So that Python there knows the distribution, whose version is part of an image's provenance.
    about = f"Metadata-Version: 2.1\nName: gpuserve\nVersion: {version('gpuserve')}\n"
    identity = sha256_json([base, about, *([name, _mode(path), sha256_file(path)] for name, path in sources.items())])
    files = {f"{_HOME}/{name}": File(path, mode=_mode(path)) for name, path in sources.items()}
    files[f"{_HOME}/components/gpuserve-{version('gpuserve')}.dist-info/METADATA"] = File(about.encode())
    target = f"{host}/gpuserve/{made}-code:{identity[:_TAG_CHARACTERS]}"
    found = resolve(target)
    if found is not None:
        return found.reference
    search = f"{_HOME}/components:{_HOME}/model_images"
    config = ImageConfig(env={"PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"})
    return bake(target, [Layer(files, comment="gpuserve")], base=base, config=config).reference


def require_tools(tools: Mapping[str, str]) -> None:
    """Check that gpuserve's own builder image has the tools of this machine: a stage's key holds their versions.

    Args:
        tools: Version of each tool that a build depends on, here.

    Raises:
        SpecError: When it lacks one, or has another version.
    """
    lists = "".join((RECIPES / RECIPE / name).read_text() for name in _PACKAGES[_target(tools)])
    pinned = {_normal(name): f"{name}=={version}" for name, version in _PINNED.findall(lists)}
    problems = list[Problem]()
    for name, here in sorted(tools.items()):
        # Stages call TensorRT's builders by their engines' names.
        there = next(filter(None, (pinned.get(_normal(package)) for package in PACKAGES.get(name, (name,)))), "")
        if there.rpartition("=")[2] != here:
            problems.append(Problem("builder.image", None, _difference(name, here, there), _fix(name, there)))
    if problems:
        raise SpecError(problems)


def _target(tools: Iterable[str]) -> str:
    return "builder-tensorrt" if TENSORRT in set(tools) else "builder"


def _difference(name: str, here: str, there: str) -> str:
    has = f"has {there}" if there else f"lacks {name}"
    return f"gpuserve's own builder image {has}, and this machine has {here}: the two would build different images"


def _fix(name: str, there: str) -> str:
    if not there:
        return f"name an image that has gpuserve and {name}, or write `builder: local`"
    return f"pip install {there}, name an image with this machine's version, or write `builder: local`"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _code() -> Iterator[tuple[str, Path]]:
    """Yield what the stages import, and the recipes, whose content is part of a build's key."""
    import gpuserve.kubernetes

    library = Path(gpuserve.kubernetes.__file__).parent
    images = Path(__file__).resolve().parents[1]
    roots = {
        "components/gpuserve/kubernetes": library,
        "model_images/gpuserve_images": images,
        **{f"model_images/{path.parent.name}": path.parent for path in sorted(RECIPES.glob("*/Dockerfile"))},
    }
    yield "components/gpuserve/__init__.py", library.parent / "__init__.py"
    for name, root in roots.items():
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{name}/{path.relative_to(root).as_posix()}", path


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
