"""The programs that the embedded engine runs: found, downloaded from their publisher, or built from their Go modules.

    from gpuserve_embedded.tools import ensure, ensure_all, crds

    kubectl = ensure("kubectl", print)
    crds("gateway-api")  # a folder of YAML files
"""

from gpuserve_embedded.tools.catalogue import DEFINITIONS, PROGRAMS
from gpuserve_embedded.tools.definitions import crds
from gpuserve_embedded.tools.engine import PulumiTools, prepare_pulumi
from gpuserve_embedded.tools.errors import ToolError
from gpuserve_embedded.tools.find import ensure, ensure_all

__all__ = ["DEFINITIONS", "PROGRAMS", "PulumiTools", "ToolError", "crds", "ensure", "ensure_all", "prepare_pulumi"]
