"""What a run shows at its end: the answer, and lines that can be pasted."""

import json
from typing import Any

from rich.console import Console
from rich.markup import escape

from gpuserve_embedded.run.up import Answer


def as_json(answer: Answer) -> str:
    """Return the answer for scripts."""
    return json.dumps(
        {
            "services": answer.services,
            "changes": answer.changes,
            "file": str(answer.file),
            "prediction": answer.prediction,
            "prometheus": answer.prometheus,
            "dashboard": answer.dashboard,
            "waiting": answer.waiting,
            "seconds": {step: round(seconds, 2) for step, seconds in answer.seconds.items()},
        },
        indent=2,
    )


def show(console: Console, answer: Answer, python: str) -> None:
    """Print the answer, the examples, the addresses and the times.

    Args:
        console: Where to print.
        answer: What the run ended with.
        python: Interpreter that has gpuserve installed, for the Python example.
    """

    def section(title: str, *lines: str) -> None:
        console.print(f"\n[bold]{escape(title)}[/bold]")
        for line in lines:
            console.print(line, markup=False)

    section(f"{answer.file} -> {answer.prediction}")
    for name, service in answer.services.items():
        section(f"Service {name}", f"  {service['url']}  (Host: {service['host']}, {service['protocol']} protocol)")
        if service["example"] is not None:  # whose inputs no model file on this machine tells
            section("With curl", service["example"])
        if service["url"].startswith("http:"):  # with TLS Python needs more than fits an example
            section("With Python", python_example(name, service, python))
    section("Addresses", f"  Prometheus  {answer.prometheus or 'your own'}", f"  Dashboard   {answer.dashboard}")
    if answer.waiting:
        section("Not ready yet", *(f"  {name}: waits for {why}" for name, why in answer.waiting.items()))
    section(
        "Work by hand",
        '  eval "$(.venv/bin/python -m gpuserve_embedded env)"',
        f"  pulumi preview -s {answer.stack}",
        "  kubectl get pods -A",
    )
    section("Time", *(f"  {seconds:6.1f} s  {step}" for step, seconds in answer.seconds.items()))
    section("pulumi up", f"  {answer.changes}")


def python_example(name: str, service: dict[str, Any], python: str) -> str:
    """Return a shell command with a Python program that asks the service through the gateway."""
    program = [
        "import requests",
        f"url, host = {service['url']!r}, {service['host']!r}",
        f"model = requests.get(f'{{url}}/v2/models/{service['model']}', headers={{'Host': host}}).json()",
        "shape = lambda t: [1 if size < 1 else size for size in t['shape']]",
        "count = lambda t: __import__('math').prod(shape(t))",
        "inputs = [dict(name=t['name'], datatype=t['datatype'], shape=shape(t), data=[0] * count(t)) for t in model['inputs']]",
        f"answer = requests.post(f'{{url}}/v2/models/{service['model']}/infer', json={{'inputs': inputs}}, headers={{'Host': host}})",
        f"print({name!r}, 'version', answer.json()['model_version'], [t['shape'] for t in answer.json()['outputs']])",
    ]
    return "\n".join([f"{python} - <<'EOF'", *program, "EOF"])
