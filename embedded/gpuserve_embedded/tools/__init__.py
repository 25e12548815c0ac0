"""The programs that the embedded engine runs: found, downloaded from their publisher, or built from their Go modules.

Example:
    >>> from gpuserve_embedded.tools import crds, ensure
    >>> kubectl = ensure("kubectl", print)
    >>> folder_of_yaml = crds("gateway-api")
"""

from gpuserve_embedded.tools.catalogue import DEFINITIONS, PROGRAMS
from gpuserve_embedded.tools.definitions import crds
from gpuserve_embedded.tools.engine import PulumiTools, prepare_pulumi
from gpuserve_embedded.tools.errors import ToolError
from gpuserve_embedded.tools.find import ensure, ensure_all

__all__ = ["DEFINITIONS", "PROGRAMS", "PulumiTools", "ToolError", "crds", "ensure", "ensure_all", "prepare_pulumi"]
