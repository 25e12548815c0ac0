"""Debian root images for a registry that cannot reach Docker Hub: the `FROM` lines of ordinary Dockerfiles then work there too."""

import os
import shutil
import tempfile
from pathlib import Path

from gpuserve_images.bases.commands import Report, run
from gpuserve_images.bases.host import apt_settings
from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import ImageConfig, TarLayer, bake, resolve

# Image name in FROM lines -> Debian suite.
_ROOTS = {"debian:bookworm-slim": "bookworm", "debian:trixie-slim": "trixie"}
# What Docker's "slim" images leave out (github.com/debuerreotype/debuerreotype, slimify-excludes).
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
# Debian's own keys for these suites, as its package debian-archive-keyring has them: that of another distribution may be too old.
_KEYS = Path(__file__).parent / "debian_keys"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure_roots(dockerfile: Path, registry: str, report: Report) -> None:
    """Make the Debian images that a Dockerfile starts from available, in the registry as `library/<name>` or at Docker Hub.

    Raises:
        BaseImageError: mmdebstrap is missing or failed.
        RegistryError: The registry is down or refused.
    """
    for name in sorted(_from_lines(dockerfile) & _ROOTS.keys()):
        local = f"{registry}/library/{name}"
        if resolve(local) or _at_docker_hub(name):
            continue
        report(f"making {local} from Debian packages (Docker Hub cannot be reached)")
        _make_root(_ROOTS[name], local, report)


def _from_lines(dockerfile: Path) -> set[str]:
    """Return the images that a Dockerfile starts from, without its own earlier stages."""
    lines = (line.split() for line in dockerfile.read_text().splitlines())
    begins = [words for words in lines if len(words) > 1 and words[0].upper() == "FROM"]
    stages = {stage for words in begins for stage in words[3:]}  # FROM <image> AS <stage>
    return {words[1] for words in begins} - stages


def _at_docker_hub(name: str) -> bool:
    try:
        return resolve(name) is not None
    except RegistryError:
        return False


def _make_root(suite: str, target: str, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="gpuserve-") as folder:
        tar, settings, keys = Path(folder, "root.tar"), Path(folder, "apt.conf"), Path(folder, "keys")
        settings.write_text(apt_settings())
        # apt reads keys as a user of its own, who may not look into a checkout below /root.
        shutil.copytree(_KEYS, keys)
        for path in (keys.parent, keys, *keys.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = ["mmdebstrap", "--variant=minbase", f"--aptopt={settings}", f"--keyring={keys}"]
        # Where the distribution's keys for Debian lie beside its own, mmdebstrap would name those alone in the list of sources.
        command += ['--setup-hook=sed -i "s/ *\\[signed-by=[^]]*\\]//" "$1"/etc/apt/sources.list']
        # A root that is merged from the start needs no usrmerge, which would bring all of Perl (50 MB).
        command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--include=usr-is-merged"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
        # An image that is being made needs no fsync after each file.
        command += ["--dpkgopt=force-unsafe-io"]
        # The machine's own package settings stay out of the image.
        command += ['--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/resolv.conf "$1"/etc/hostname']
        # The fixed time makes two runs over the same packages equal.
        run([*command, suite, str(tar)], what=f"Debian {suite}", report=report, env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
        layer = TarLayer(tar, comment=f"Debian {suite}, minbase")
        bake(target, [layer], config=ImageConfig(cmd=["bash"], env={"PATH": _PATH}))
