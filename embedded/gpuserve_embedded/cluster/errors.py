"""The error of the embedded cluster."""

from collections.abc import Sequence


class ClusterError(Exception):
    """A step of starting or stopping the cluster failed.

    Its text has four parts: what was being done, the value or object it was done with, why it failed, and what to do.

    Args:
        step: what was being done, for example ``start kube-apiserver``.
        subject: the file, port or object it was done with.
        reason: why it failed, without a final full stop.
        fix: what the user can do about it.
        log: the last lines of the right log, oldest first; empty where there is none.
    """

    def __init__(self, step: str, subject: object, reason: str, fix: str, *, log: Sequence[str] = ()) -> None:
        """Compose the message from its parts."""
        self.step = step
        self.subject = str(subject)
        self.reason = reason
        self.fix = fix
        self.log = tuple(log)
        super().__init__(self._message())

    def _message(self) -> str:
        message = f"{self.step}: {self.subject}: {self.reason}.\n  fix: {self.fix}"
        if self.log:
            message += "\n  last lines of the log:\n" + "\n".join(f"    {line}" for line in self.log)
        return message
