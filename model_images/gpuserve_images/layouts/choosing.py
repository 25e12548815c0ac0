"""Which server can serve what, and the layout of each."""

from collections.abc import Callable, Mapping

from gpuserve.kubernetes.errors import suggestion
from gpuserve_images.layouts import huggingface, kserve, mlserver, tfserving, torchserve, triton
from gpuserve_images.layouts.features import require_features
from gpuserve_images.layouts.served import Layout, LayoutError, ServedModel, Wishes
from gpuserve_images.layouts.spec import EnsembleSpec, LayoutSpec
from gpuserve_images.layouts.triton_ensemble import ensemble
from gpuserve_images.records import sha256_file, tool_versions

SERVERS: Mapping[str, Callable[[ServedModel, Wishes], Layout]] = {
    "triton": triton.repository,
    "mlserver": mlserver.repository,
    "torchserve": torchserve.model_store,
    "tfserving": tfserving.repository,
    "kserve": kserve.repository,
    "vllm": huggingface.folder,
}
"""Server -> its layout."""

FORMATS: Mapping[str, tuple[str, ...]] = {
    "triton": triton.FORMATS,
    "mlserver": mlserver.FORMATS,
    "torchserve": torchserve.FORMATS,
    "tfserving": tfserving.FORMATS,
    "kserve": kserve.FORMATS,
    "vllm": huggingface.FORMATS,
}
"""Server -> formats of model files that it serves, the most usual first."""


def lay_out(server: str, model: ServedModel, wishes: Wishes) -> Layout:
    """Return a model as a server's own folder and configuration files.

    Args:
        server: Name of the server, as `Target.server`.
        model: What it is to serve.
        wishes: How.

    Raises:
        LayoutError: When the server is unknown, cannot serve the format, or lacks a feature that was asked for.
    """
    require_layout(server, model.format, wishes.options)
    return SERVERS[server](model.seen(wishes.batch), wishes)


def lay_out_ensemble(server: str, spec: EnsembleSpec, models: Mapping[str, tuple[ServedModel, Wishes]]) -> Layout:
    """Return several models, and an ensemble over them, as a server's own folder.

    Args:
        server: Name of the server, as `Target.server`.
        spec: The ensemble.
        models: Its models by name, and how each is to be served.

    Raises:
        LayoutError: When the server has no ensembles, cannot serve one of the models, or they do not fit together.
    """
    for model, wishes in models.values():
        require_layout(server, model.format, wishes.options.model_copy(update={"ensemble": spec}))
    return ensemble(spec, {name: (model.seen(wishes.batch), wishes) for name, (model, wishes) in models.items()})


def require_layout(server: str, form: str, options: LayoutSpec) -> None:
    """Refuse, at plan time, what a server cannot serve or does not hear.

    Args:
        server: Name of the server, as `Target.server`.
        form: Format of the files that a build makes, such as `onnx`.
        options: What was said about the server.

    Raises:
        LayoutError: With the servers that can.
    """
    require_server(server, form)
    if server != "kserve":
        require_features(server, options)
        return
    # KServe runs another server behind its own name, and that one hears the options, but those that it would be started with.
    runs = kserve.SERVERS[form]
    require_features(runs, options, unheard=kserve.UNHEARD.get(runs, ()))


def require_server(server: str, form: str) -> None:
    """Refuse, at plan time, a server that cannot serve a format of model files.

    Args:
        server: Name of the server.
        form: Format of the files that a build makes, such as `onnx`.

    Raises:
        LayoutError: With the servers that can, or the known ones.
    """
    if server not in FORMATS:
        raise LayoutError("runtime", "is no server that images are made for", suggestion(server, FORMATS), value=server)
    if form not in FORMATS[server]:
        able = [name for name, formats in FORMATS.items() if form in formats]
        fix = f"Use one of {able}." if able else f"Build another format: {server} serves {list(FORMATS[server])}."
        raise LayoutError("runtime", f"cannot serve {form} models", fix, value=server)


def identity(server: str) -> Mapping[str, str]:
    """Return what else than its arguments decides a layout: versions of tools, and hashes of files that go into the image."""
    if server in {"torchserve", "kserve"}:
        return {**tool_versions("torch-model-archiver"), "handler": sha256_file(torchserve.HANDLER)}
    return {}
