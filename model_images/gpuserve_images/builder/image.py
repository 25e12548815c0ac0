"""The image that builds: a recipe's packages, and gpuserve's own code as one small layer on top."""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from gpuserve.kubernetes.errors import Problem, SpecError
from gpuserve_images.bases.recipes import ensure_base
from gpuserve_images.bases.serving import RECIPES
from gpuserve_images.compile.builders import PACKAGES
from gpuserve_images.oci import File, ImageConfig, Layer, bake, resolve
from gpuserve_images.records import Progress, sha256_file, sha256_json

RECIPE = "builder"
_HOME = "/opt/gpuserve"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", re.MULTILINE)
_TAG_CHARACTERS = 40


def ensure_image(registry: str, progress: Progress) -> str:
    """Return the builder's image by digest; it is made and pushed when the registry lacks it.

    Args:
        registry: Registry and path prefix of the models; the image goes to the same registry.
        progress: Told about each step.

    Raises:
        BaseImageError: When buildah is missing or fails.
        RegistryError: When the registry is down or refuses.
    """
    host = registry.split("/", 1)[0]
    base = ensure_base(RECIPE, host, lambda line: progress(f"builder: {line}", 0, 0))
    sources = dict(_code())
    # So that Python there knows the distribution, whose version is part of an image's provenance.
    about = f"Metadata-Version: 2.1\nName: gpuserve\nVersion: {version('gpuserve')}\n"
    identity = sha256_json([base, about, *([name, _mode(path), sha256_file(path)] for name, path in sources.items())])
    files = {f"{_HOME}/{name}": File(path, mode=_mode(path)) for name, path in sources.items()}
    files[f"{_HOME}/components/gpuserve-{version('gpuserve')}.dist-info/METADATA"] = File(about.encode())
    target = f"{host}/gpuserve/{RECIPE}-code:{identity[:_TAG_CHARACTERS]}"
    found = resolve(target)
    if found is not None:
        return found.reference
    search = f"{_HOME}/components:{_HOME}/model_images"
    config = ImageConfig(env={"PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"})
    return bake(target, [Layer(files, comment="gpuserve")], base=base, config=config).reference


def require_tools(tools: Mapping[str, str], field: str = "builder.image") -> None:
    """Check that gpuserve's own builder image has the tools of this machine: a stage's key holds their versions.

    Args:
        tools: Version of each tool that a build depends on, here.
        field: What to name in the error.

    Raises:
        SpecError: When it lacks one, or has another version.
    """
    pinned = {_normal(name): version for name, version in _PINNED.findall((RECIPES / RECIPE / "requirements.txt").read_text())}
    # Stages call TensorRT's builders by their engines' names.
    there = {name: next(filter(None, map(pinned.get, map(_normal, PACKAGES.get(name, (name,))))), None) for name in tools}
    problems = [
        Problem(field, None, _difference(name, version, there[name]), _fix(name, there[name]))
        for name, version in sorted(tools.items())
        if there[name] != version
    ]
    if problems:
        raise SpecError(problems)


def _difference(name: str, here: str, there: str | None) -> str:
    has = f"has {name} {there}" if there else f"lacks {name}"
    return f"gpuserve's own builder image {has}, and this machine has {here}: the two would build different images"


def _fix(name: str, there: str | None) -> str:
    if there is None:
        return f"name an image that has gpuserve and {name}, or write `builder: local`"
    return f"install {name}=={there} here, name an image with this machine's version, or write `builder: local`"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _code() -> Iterator[tuple[str, Path]]:
    """Yield what the stages import, and the recipes, whose content is part of a build's key."""
    import gpuserve.kubernetes

    library = Path(gpuserve.kubernetes.__file__).parent
    images = RECIPES / "gpuserve_images"
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
