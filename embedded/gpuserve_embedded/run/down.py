"""`make down`: nothing of the run is left, whatever state it was in."""

from gpuserve_embedded.cluster import stop
from gpuserve_embedded.run import environment
from gpuserve_embedded.run.orphans import end_orphans
from gpuserve_embedded.run.pulumi import Pulumi
from gpuserve_embedded.run.steps import Steps


def down(stack: str, steps: Steps) -> None:
    """Remove what `up` made; what is cached outside the checkout stays, so that the next `up` is quick.

    With the embedded cluster the stack's state lies in the cluster's folder and goes with it. With a cluster of the
    user's own, `pulumi destroy` removes the stack's objects and nothing else.
    """
    folder = environment.checkout()
    if environment.is_external():
        with environment.own_temporary_files(folder), steps.step(f"pulumi destroy -s {stack}") as progress:
            Pulumi(folder, stack, environment.variables(folder), folder / ".gpuserve" / "pulumi.log").destroy(progress)
        return
    with steps.step("Stop the cluster and remove what it made") as progress:
        end_orphans(progress)  # before the cluster: an engine without its run would only fail on it
        stop()
    environment.left_file(folder).unlink(missing_ok=True)  # else it hides the user's own kubeconfig behind one that is gone
