"""The refusal of an autoscaler whose target nobody has measured, in the same words wherever it is found out."""

from gpuserve.kubernetes.errors import Problem


def unmeasured(field: str, image: str | None = None, file: str | None = None) -> Problem:
    """Return the problem of a target that is to come from a measured capacity, where there is none that keeps the SLO.

    Args:
        field: What has the target: an autoscaler's name, an image's, or the dotted path of a field.
        image: Address of the image. Default: not known.
        file: File of the field.
    """
    known = image or "the image"
    reason = f"is to be taken from the measured capacity, but {known} carries none that keeps the SLO's latency"
    fix = (
        f"measure it with `gpuserve bench MODEL --attach {image or 'IMAGE'}` (with `--url URL` behind a running server, with "
        "`--build BUILD` on this machine's processor) and run `pulumi refresh`; until then give `queue_time:` or `qps:`, or `max:` "
        "equal to `min:`; or relax `slo.latency_p95`"
    )
    return Problem(field, None, reason, fix, file)
