"""Package settings of this machine (indexes, proxies, certificates), for builds that need them but must not keep them."""

import os
import subprocess
import sys
from pathlib import Path

# Where the build finds them; see the secrets in the Dockerfiles.
_CA_IN_BUILD = "/etc/ssl/certs/ca-certificates.crt"
_CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
# Settings of pip that say how to reach an index; the others concern this machine's own environments.
_PIP_OPTIONS = frozenset({"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries"})
# Settings of apt that say how to reach a mirror; others may name programs that an image does not have.
_APT_PREFIXES = (
    "Acquire::http",
    "Acquire::https",
    "Acquire::Check-",
    "Acquire::Retries",
    "Acquire::ForceIPv",
    "Acquire::Max-ValidTime",
)


def apt_settings() -> str:
    """Return apt's network settings in the form of apt.conf; empty where there is no apt."""
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    # Hooks below these names would be programs of this machine.
    kept = [line for line in dump.splitlines() if line.startswith(_APT_PREFIXES) and "Proxy-Auto-Detect" not in line]
    return "".join(f"{line}\n" for line in kept)


def pip_settings() -> str:
    """Return pip's network settings in the form of pip.conf, with the certificates where the build mounts them."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    options: dict[str, str] = {}
    # pip lists files first and the environment last, so that the last one wins here as it does in pip.
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in _PIP_OPTIONS:
            options[option] = value.strip("'").replace("\\n", "\n    ")
    if certificates():
        options["cert"] = _CA_IN_BUILD
    return "[global]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())


def nvidia_index() -> str:
    """Return the address of this machine's mirror of NVIDIA's package index, as NVIDIA's own `wheel-stub` is told it; empty for the original."""
    return os.environ.get("WHEEL_STUB_PIP_INDEX_URL", "")


def certificates() -> Path | None:
    """Return the file of certificate authorities that this machine trusts, or None where there is none."""
    named = [os.environ[variable] for variable in _CA_VARIABLES if os.environ.get(variable)]
    return next((path for path in map(Path, [*named, *_CA_FILES]) if path.is_file()), None)
