"""Files that installed Python packages ship."""

from importlib.util import find_spec
from pathlib import Path

from gpuserve_images.errors import SourceError


def package_folder(package: str, field: str) -> Path:
    """Return the folder of an installed package, without importing it.

    Raises:
        SourceError: When it is not installed, or is a single module.
    """
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        fix = f"Install it, or name the folder it is imported by: pip install {package}"
        raise SourceError(field, "is not an installed Python package", fix, value=package)
    if not spec.submodule_search_locations:
        raise SourceError(field, "is a single module and ships no files", "Name a package.", value=package)
    return Path(next(iter(spec.submodule_search_locations)))
