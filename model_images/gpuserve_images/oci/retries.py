"""When a request to a registry, or to its token server, is sent again."""

import time

from gpuserve_images.waiting import asked_wait

ATTEMPTS = 4
"""One try and three retries: their doubling waits ride out a restart or a rate limit (3.5 s in all) without looking like a hang."""

RETRIED = frozenset({429, 500, 502, 503, 504})
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0


def pause(attempt: int, asked: str | None = None) -> None:
    """Wait before the next attempt: twice as long each time, or as long as the server asks for with `Retry-After`, at most 30 s."""
    wait = max(_FIRST_WAIT_SECONDS * 2**attempt, asked_wait(asked) or 0.0)
    time.sleep(min(wait, _LONGEST_WAIT_SECONDS))
