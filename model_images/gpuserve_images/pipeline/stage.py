"""What a stage is: a name, a key that is known before it runs, and what to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gpuserve_images.records import Progress, StageRecord, sha256_json

MODEL = "model.onnx"
"""Name of a stage's main file."""

Origin = Literal["made", "local", "registry"]
"""Where a stage's files came from: it ran now, or the local store or the registry had them."""


@dataclass(frozen=True)
class Done:
    """A finished stage.

    Attributes:
        stage: Name of the stage.
        key: Its key.
        folder: Folder with its files.
        record: What it did.
        origin: Whether it ran now.
        seconds: How long it ran, when it ran.
        main: Its main file below `folder`.
    """

    stage: str
    key: str
    folder: Path
    record: StageRecord
    origin: Origin
    seconds: float
    main: str = MODEL

    @property
    def file(self) -> Path:
        """The stage's main file."""
        return self.folder / self.main


@dataclass(frozen=True)
class Work:
    """What a running stage is given.

    Attributes:
        out: An empty folder to fill.
        before: Returns an earlier stage by the role it has for this one; it is run or fetched when it is first asked for.
        progress: Told about the work.
    """

    out: Path
    before: Callable[[str], Done]
    progress: Progress


@dataclass(frozen=True)
class Source:
    """Files that lie somewhere already, such as the model's own: no copy of them is kept.

    Attributes:
        identity: Digest of their content, known without having them.
        locate: Returns the folder, the name of the main file below it, and what was done to have them.
        shown: What people call it: a path or an address.
        name: What fetching it is called in messages.
    """

    identity: str
    locate: Callable[[Progress], tuple[Path, str, StageRecord]]
    shown: str = "the model"
    name: str = "source"

    @cached_property
    def key(self) -> str:
        """64 hex digits."""
        return sha256_json({"stage": self.name, "identity": self.identity})

    def chain(self) -> "dict[str, Stage]":
        """Return nothing: it is no work."""
        return {}


@dataclass(frozen=True)
class Stage:
    """One step of a build.

    Its key follows from what goes in: the digests of files, the keys of the stages before it, its options, the versions of its
    tools and of itself. So every key of a build is known before anything runs, and a change alters exactly the keys that come
    after it.

    Attributes:
        name: What it is called in the store, the registry and messages.
        run: Fills `Work.out` and says what it did.
        version: Raise it when the stage writes something else for the same inputs.
        inputs: Digests of what it reads from outside, by role.
        after: The stages that it reads, by role.
        options: Everything else that decides what it writes, as plain data.
        tools: Version of each tool that decides what it writes.
        shared: Whether its result holds on other machines: a measured time does not.
        ready: Raises when this machine cannot run it, for want of a GPU, say. Default: any machine can.
    """

    name: str
    run: Callable[[Work], StageRecord]
    version: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    after: Mapping[str, "Stage | Source"] = field(default_factory=dict[str, "Stage | Source"])
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tools: Mapping[str, str] = field(default_factory=dict[str, str])
    shared: bool = True
    ready: Callable[[], None] | None = None

    @cached_property
    def key(self) -> str:
        """64 hex digits."""
        return sha256_json(
            {
                "stage": self.name,
                "version": self.version,
                "inputs": dict(self.inputs),
                "after": {role: stage.key for role, stage in self.after.items()},
                "options": dict(self.options),
                "tools": dict(self.tools),
            }
        )

    def chain(self) -> "dict[str, Stage]":
        """Return this stage and all before it by key, the first first."""
        found: dict[str, Stage] = {}
        for stage in self.after.values():
            found |= stage.chain()
        return found | {self.key: self}
