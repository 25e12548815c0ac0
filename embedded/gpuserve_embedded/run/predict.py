"""The proof at the end: a real file through the gateway."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpuserve.cli.inference import Answer, InferenceError, infer
from gpuserve.platform.load import Environment
from gpuserve_embedded.run.steps import Progress
from gpuserve_images.asking import Asking

_PATIENCE = 30.0
"""Seconds that a gateway may take to route to pods that are ready; it takes under one."""


def first_prediction(declared: Environment, services: dict[str, Any], file: Path, progress: Progress) -> str:
    """Send ``file`` to the stack's first service and return the model's answer in words.

    Raises:
        InferenceError: When no answer came within half a minute.
    """
    spec = declared.platform.services[0]
    service = services[spec.name]
    asking = Asking(declared.models[spec.model_name], declared.folder)
    url = f"{service['url']}/v2/models/{service['model']}/infer"
    inputs = asking.encoded(file)
    answer = _ask(lambda: infer(url, inputs, service["host"], timeout=_PATIENCE, authorities=service["ca"]), progress)
    return f"{asking.decoded(answer.outputs)} (service {spec.name}, {answer.seconds * 1000:.0f} ms)"


def _ask(question: Callable[[], Answer], progress: Progress) -> Answer:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return question()
        except InferenceError as error:
            if time.monotonic() > deadline:
                raise
            progress(f"the gateway does not route yet: {error}")
            time.sleep(0.2)
