"""An order that is no dependency."""

from typing import Any

import pulumi


def once_known(*outputs: pulumi.Output[Any]) -> Any:
    """Return an item of ``depends_on`` that waits until ``outputs`` are known, and makes nothing depend on their resources.

    In an update a resource that is given it is registered later. The engine keeps no note of it: the state is the same with and without,
    and so is the plan of a preview (``pulumi preview --save-plan``), which need not wait for what it will not have.

    Args:
        outputs: What must be known. One that fails fails what waits for it.
    """

    async def known() -> None:
        for output in outputs:
            await output.future()

    # Made from something awaitable, an output has no resources.
    return pulumi.Output.from_input(None if pulumi.runtime.is_dry_run() else known())
