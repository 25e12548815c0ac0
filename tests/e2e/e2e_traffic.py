"""Requests through the gateway, one by one and as a load, and what chance allows their counts to be."""

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import requests

HOST = "filetype.example.com"
MODEL = "filetype"
INPUT, WIDTH, LARGEST = "bytes", 2048, 256
"""The model's input: byte values, and 256 for "past the end of the file"."""

OUTPUT = "target_label"


def random_inputs(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, LARGEST + 1, size=(rows, WIDTH), dtype=np.int32)


def json_body(inputs: np.ndarray) -> dict[str, Any]:
    tensor = {"name": INPUT, "datatype": "INT32", "shape": list(inputs.shape), "data": inputs.ravel().tolist()}
    return {"inputs": [tensor]}


def infer(url: str, inputs: np.ndarray, host: str = HOST) -> np.ndarray:
    """Send one request of the v2 protocol and return the answer's rows."""
    answer = requests.post(f"{url}/v2/models/{MODEL}/infer", json=json_body(inputs), headers={"Host": host}, timeout=30)
    assert answer.status_code == 200, answer.text
    (output,) = [output for output in answer.json()["outputs"] if output["name"] == OUTPUT]
    return np.array(output["data"], dtype=np.float32).reshape(output["shape"])


def binary_request(inputs: np.ndarray, host: str = HOST) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request with a binary tensor (Triton's binary tensor data extension): cheap to send often."""
    tensor = {
        "name": INPUT,
        "datatype": "INT32",
        "shape": list(inputs.shape),
        "parameters": {"binary_data_size": inputs.nbytes},
    }
    outputs = [{"name": OUTPUT, "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    return head + inputs.tobytes(), {"Host": host, "Inference-Header-Content-Length": str(len(head))}


class Load:
    """Threads that send one request after the other until told to stop, and remember every outcome."""

    def __init__(self, url: str, *, threads: int, rows: int = 1, pause: float = 0.0, host: str = HOST) -> None:
        self.outcomes: Counter[str] = Counter()
        self._url = f"{url}/v2/models/{MODEL}/infer"
        self._request = binary_request(random_inputs(rows, seed=1), host)
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    @property
    def sent(self) -> int:
        return sum(self.outcomes.values())

    def _send(self) -> None:
        body, headers = self._request
        session = requests.Session()
        while not self._stop.is_set():
            try:
                outcome = str(session.post(self._url, data=body, headers=headers, timeout=30).status_code)
            except requests.RequestException as error:
                outcome = f"{type(error).__name__}: {error}"
            with self._lock:
                self.outcomes[outcome] += 1
            if self._pause:
                time.sleep(self._pause)


def binomial_interval(trials: int, share: float, alpha: float) -> tuple[int, int]:
    """Return the counts that a Binomial(trials, share) leaves on either side with a probability of at most alpha / 2.

    Exact, by summing the distribution from both ends.
    """

    def probability(count: int) -> float:
        ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        return math.exp(ways + count * math.log(share) + (trials - count) * math.log1p(-share))

    return (
        _tail(probability, iter(range(trials + 1)), alpha / 2),
        _tail(probability, iter(range(trials, -1, -1)), alpha / 2),
    )


def _tail(probability: Callable[[int], float], counts: Any, alpha: float) -> int:
    mass = 0.0
    for count in counts:
        mass += probability(count)
        if mass > alpha:
            return count
    raise AssertionError("a distribution has a total of 1")
