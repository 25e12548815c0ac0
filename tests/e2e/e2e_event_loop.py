"""What Pulumi's SDK has begun under mocks ends in the test that began it: else it ends in another one, with a warning."""

import asyncio

STUCK_SECONDS = 30


def leave_nothing_on(loop: asyncio.AbstractEventLoop, *, cancel: bool = False) -> None:
    """Let all tasks on a loop end, and those that they begin.

    Args:
        loop: The loop, which does not run.
        cancel: Break them off, where nobody wants what they do any more.
    """
    while tasks := asyncio.all_tasks(loop):
        for task in tasks if cancel else ():
            task.cancel()
        _, stuck = loop.run_until_complete(asyncio.wait(tasks, timeout=STUCK_SECONDS))
        assert not stuck, stuck
