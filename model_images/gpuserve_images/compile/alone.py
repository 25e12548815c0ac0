"""One thread at a time with TensorRT, and no garbage collector meanwhile: else a build may wait for ever.

TensorRT calls `ILogger.log` while it holds a lock of its own. `log` is Python, so it waits for the interpreter, which another thread may have
that waits for TensorRT's lock; and it may start the garbage collector, and when that finds a builder of an earlier call, its destructor waits
for the lock that its own thread holds. Seen with TensorRT for RTX 1.7.1.
"""

import gc
import threading
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_ALONE = threading.RLock()


def alone(work: Callable[P, T]) -> Callable[P, T]:
    """Let a function that uses TensorRT run in one thread at a time, without the garbage collector in any; it may call others of its kind."""

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with _ALONE:
            collects = gc.isenabled()
            gc.disable()
            try:
                return work(*args, **kwargs)
            except BaseException as error:
                # Its frames hold TensorRT's objects, which are to go here and not wherever the error is forgotten.
                traceback.clear_frames(error.__traceback__)
                raise
            finally:
                if collects:
                    gc.enable()

    return run
