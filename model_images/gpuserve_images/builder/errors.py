"""The error of a build in the cluster."""

from collections.abc import Sequence

from gpuserve_images.errors import ImageError


class JobError(ImageError):
    """A build in the cluster did not end well, or could not begin.

    Attributes:
        log: The last lines that it wrote, oldest first.
    """

    def __init__(self, where: str, reason: str, fix: str, *, value: str | None = None, log: Sequence[str] = ()) -> None:
        """Append the log below the message."""
        self.log = tuple(log)
        super().__init__(where, reason, fix, value=value)

    def __str__(self) -> str:
        """Return the message, then the log indented below it."""
        return "\n".join([super().__str__(), *(f"    {line}" for line in self.log)])


class BuildRefusedError(ImageError):
    """The build itself failed in the pod; the message is the build's own."""

    def __init__(self, said: str) -> None:
        """Take the message that the pod left behind."""
        super().__init__("build", "failed", "see above")
        self.said = said

    def __str__(self) -> str:
        """Return the build's own message."""
        return self.said
