"""ONNX Runtime's quantisation tools kept from talking: what they find is in their results and errors."""

import contextlib
import io
import logging
import threading
from collections.abc import Generator

from gpuserve_images.onnx_model.session import QUIET

DEFAULT_SEVERITY = 2
"""ONNX Runtime's own severity, warnings; it cannot be asked for."""

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Let one at a time work: output is caught by process-wide means, and the activations that are kept fill the memory once."""
    import numpy as np
    import onnxruntime

    with _one_at_a_time, contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)
        onnxruntime.set_default_logger_severity(QUIET)
        try:
            yield
        finally:
            logger.setLevel(level)
            onnxruntime.set_default_logger_severity(DEFAULT_SEVERITY)
