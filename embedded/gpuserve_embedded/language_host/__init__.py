"""A stand-in for `pulumi-language-python`, which starts Python programs, policy packs and plugins for Pulumi's engine.

The official one comes with the official Pulumi CLI and in no package registry. This one serves the same protocol, for
machines where the CLI had to be built and the official host is not to be had: it is put on PATH only there.
"""

from gpuserve_embedded.language_host.wrappers import remove_wrappers, write_wrappers

__all__ = ["remove_wrappers", "write_wrappers"]
