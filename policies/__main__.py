"""The policy pack, as the Pulumi engine starts it: ``pulumi preview --policy-pack policies``."""

from gpuserve_policies.pack import policies
from pulumi_policy import EnforcementLevel, PolicyPack

if __name__ == "__main__":
    PolicyPack("gpuserve", policies(), EnforcementLevel.MANDATORY)
