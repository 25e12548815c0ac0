"""`gpuserve predict`: one real request through the gateway, with the model's own words around it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuserve.cli.options import STACKS, JsonOption, StackOption, StacksOption
from gpuserve.cli.output import to_json
from gpuserve.kubernetes.errors import GpuserveError, suggestion

if TYPE_CHECKING:
    from gpuserve.cli.stack import Stack

TIMEOUT = 300
"""Seconds to wait for an answer: the default of a service's own timeout."""


class PredictError(GpuserveError):
    """A request could not be sent, or was not answered."""


def predict(
    service: Annotated[str, typer.Argument(help="Service of the stack.")],
    file: Annotated[Path, typer.Argument(help="File to ask about.", exists=True, dir_okay=False)],
    stack: StackOption,
    stacks: StacksOption = STACKS,
    as_json: JsonOption = False,
) -> None:
    """Ask a service about a file, through the gateway, and print its answer."""
    from gpuserve.cli.stack import open_stack

    loaded = open_stack(stack, stacks)
    names = [known.name for known in loaded.environment.platform.services]
    if service not in names:
        raise PredictError(f"service = {service!r}: no such service in stack {stack!r}. Fix: {suggestion(service, names)}")
    answer = _ask(loaded, service, file)
    if as_json:
        typer.echo(to_json(answer))
    else:
        version = f" (version {answer['version']})" if answer["version"] else ""
        typer.echo(f"{file}: {answer['answer']}{version}")


def _ask(stack: "Stack", service: str, file: Path) -> dict[str, Any]:
    from gpuserve.cli.inference import infer
    from gpuserve.traffic.manifests import sendable_host
    from gpuserve_images.asking import Asking

    spec = next(known for known in stack.environment.platform.services if known.name == service)
    model = stack.environment.models[spec.model_name]
    asking = Asking(model, stack.environment.folder)
    try:
        inputs = asking.encoded(file)
    except ValueError as error:
        raise PredictError(f"{file}: is nothing that model {model.name!r} takes ({error}). Fix: give another file") from error
    url, authorities = _address(stack, service)
    host = sendable_host(spec.traffic.host)
    answer = infer(f"{url}/v2/models/{model.asked_as}/infer", inputs, host, timeout=TIMEOUT, authorities=authorities)
    return {
        "service": service,
        "file": str(file),
        "answer": asking.decoded(answer.outputs),
        "model": model.asked_as,
        "version": answer.version,
        "seconds": round(answer.seconds, 6),
        "outputs": _shapes(answer.outputs),
    }


def _address(stack: "Stack", service: str) -> tuple[str, str | None]:
    """Return where a service is asked, and whose certificate it shows there where that is a CA of its own."""
    from gpuserve.cli.cluster import connect
    from gpuserve.cli.inspection import authority, live
    from gpuserve.traffic.manifests import service_url

    traffic, cluster = stack.plan.traffic[service], connect(chosen=stack.environment.cluster)
    gateway = live(cluster, service, traffic)
    url = service_url(gateway, traffic) if gateway else None
    if url is None:
        reason = f"has no listener for {traffic.host} over HTTP or HTTPS" if gateway else "does not exist"
        raise PredictError(
            f"service {service!r}: has no address yet: its Gateway {reason}. "
            f"Fix: run `pulumi up -s {stack.name}`, and see `gpuserve status -s {stack.name}`"
        )
    return url, authority(cluster, service, traffic)


def _shapes(outputs: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in outputs.items()}
