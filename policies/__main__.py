"""The policy pack, as the Pulumi engine starts it: ``pulumi preview --policy-pack policies``."""

from pulumi_policy import EnforcementLevel, PolicyPack

from gpuserve_policies.pack import policies

if __name__ == "__main__":
    PolicyPack("gpuserve", policies(), EnforcementLevel.MANDATORY)
