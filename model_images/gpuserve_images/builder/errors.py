"""The errors of a build in the cluster."""

from gpuserve_images.errors import ImageError, LoggedError


class JobError(LoggedError):
    """A build in the cluster did not end well, or could not begin."""


class BuildRefusedError(ImageError):
    """The build itself failed in the pod; the message is the build's own."""

    def __init__(self, said: str) -> None:
        """Take the message that the pod left behind."""
        super().__init__("build", "failed", "see above")
        self.said = said

    def __str__(self) -> str:
        """Return the build's own message."""
        return self.said
