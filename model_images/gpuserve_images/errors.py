"""Errors of image building: each says where, which value, why, and what to do instead."""

from collections.abc import Mapping, Sequence

from gpuserve.kubernetes.errors import GpuserveError


class ImageError(GpuserveError):
    """Something about an image that a person can put right.

    Attributes:
        where: File, field or address that the error is about.
        value: The value found there, or None where there is none to show.
        reason: Why it is wrong.
        fix: What to do instead.
    """

    def __init__(self, where: str, reason: str, fix: str, *, value: str | None = None) -> None:
        """Join the four parts into one message."""
        self.where = where
        self.value = value
        # Libraries' own sentences end in a full stop, as this one does; an ellipsis stays.
        self.reason = reason = reason.removesuffix(".") if not reason.endswith("..") else reason
        self.fix = fix
        found = "" if value is None else f" ({value})"
        super().__init__(f"{where}{found}: {reason}. Fix: {fix}")

    def rename(self, names: Mapping[str, str]) -> None:
        """Call things by the names that people know them by.

        Args:
            names: Name by what stands in its place, such as the path of a file of the cache; the first that fits counts.
        """

        def renamed(text: str) -> str:
            for found, name in names.items():
                text = text.replace(found, name)
            return text

        self.where, self.reason, self.fix = renamed(self.where), renamed(self.reason), renamed(self.fix)
        self.value = None if self.value is None else renamed(self.value)
        self.args = tuple(renamed(str(part)) for part in self.args)


class RegistryError(ImageError):
    """A registry refused a request, or could not be reached.

    Attributes:
        registry: Host and port of the registry.
        repository: Repository asked about, or None before one was known.
        status: HTTP status of the answer, or None when there was no answer.
    """

    def __init__(self, registry: str, repository: str | None, reason: str, fix: str, *, status: int | None = None) -> None:
        """Name the registry, the repository and the HTTP status in front of reason and fix."""
        self.registry = registry
        self.repository = repository
        self.status = status
        where = f"registry {registry}" + (f", repository {repository}" if repository else "")
        super().__init__(where, reason, fix, value=None if status is None else f"HTTP {status}")


class BrokenOffError(RegistryError):
    """A registry's answer began and ended too early: what came of it is good."""


class LoggedError(ImageError):
    """What was started did not end well.

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


class BaseImageError(LoggedError):
    """A base image could not be built."""


class SourceError(ImageError):
    """A model file, or where it should come from, cannot be used."""


class ExportError(ImageError):
    """A model cannot become ONNX, or what would make it so is not installed."""


def shortened(error: object, length: int = 400) -> str:
    """Return a library's message on one line, cut to so many characters: some list every weight of a model."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."
