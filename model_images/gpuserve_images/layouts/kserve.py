"""KServe: what its storage initializer and its modelcars look for.

Both read `/models` of an image and show it as `/mnt/models` to the server that the model's format chooses. Sources:
https://github.com/kserve/kserve, `python/storage/kserve_storage/kserve_storage.py` and `config/runtimes`.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from gpuserve_images.layouts import huggingface, tfserving, torchserve, triton
from gpuserve_images.layouts.served import Files, Layout, LayoutError, ServedModel, Wishes, layout_record

ROOT = "/models"
"""Folder of the model in an image."""

MOUNT = "/mnt/models"
"""Where KServe's servers see it."""

ENTRIES: Mapping[str, Mapping[str, str]] = {
    "sklearn": {".joblib": ".joblib", ".pkl": ".pkl", ".pickle": ".pickle"},
    "xgboost": {".bst": ".bst", ".json": ".json", ".ubj": ".ubj"},
    # KServe's LightGBM server looks for this name only; the content is LightGBM's own text either way.
    "lightgbm": {".bst": ".bst", ".txt": ".bst"},
}
"""Format of a server that wants one file -> suffix of the model's file -> suffix that the server looks for."""

SERVERS: Mapping[str, str] = {
    "onnx": "triton",
    "tensorrt": "triton",
    "sklearn": "kserve",
    "xgboost": "kserve",
    "lightgbm": "kserve",
    "torch": "torchserve",
    "tensorflow": "tfserving",
    "huggingface": "vllm",
}
"""Format -> server that KServe runs for it; `kserve` are its own."""

UNHEARD: Mapping[str, tuple[str, ...]] = {
    "tfserving": ("layout.threads", "layout.versions"),
    "triton": ("layout.response_cache",),
}
"""Server -> features that need arguments, and KServe starts it with its own: TensorFlow Serving without configuration files, Triton without
`--cache-config` (`config/runtimes/kserve-tensorflow-serving.yaml` and `kserve-tritonserver.yaml` there)."""

FORMATS = tuple(SERVERS)
"""Formats that KServe has a server for."""


def repository(model: ServedModel, wishes: Wishes) -> Layout:
    """Return what KServe expects below `/models`, by the model's format.

    Args:
        model: The model. Servers of single files take its newest version.
        wishes: How it is to be served.

    Raises:
        LayoutError: When a file has no name that KServe's server looks for, or the server's own layout cannot be made.
    """
    notes: tuple[str, ...] = ()
    match SERVERS[model.format]:
        case "triton":
            files, record = triton.repository(model, wishes)
            notes = record.notes
        case "torchserve":
            files, _ = torchserve.model_store(model, wishes, mounted=MOUNT)
        case "tfserving":
            files = _saved_models(model, wishes)
        case "kserve":
            files = _single_file(model)
        case _:
            files, notes = huggingface.checked(model, wishes, ROOT)
    return files, layout_record("kserve", model, files).model_copy(update={"notes": notes})


def _single_file(model: ServedModel) -> Files:
    """KServe's own servers take the one file with a suffix they know, and refuse a folder with two."""
    known = ENTRIES[model.format]
    entry = model.newest.entry
    suffix = known.get(PurePosixPath(entry).suffix)
    if suffix is None:
        fix = f"Save the model as one of {[f'model{name}' for name in known]}."
        raise LayoutError(f"model {model.name}", f"is no file that KServe's {model.format} server reads", fix, value=entry)
    clashes = [name for name in model.newest.files if name != entry and PurePosixPath(name).suffix in known.values()]
    if clashes:
        reason = f"has other files that KServe's {model.format} server would take for the model"
        raise LayoutError(f"model {model.name}", reason, "Remove or rename them.", value=str(clashes))
    return {f"{ROOT}/{f'model{suffix}' if name == entry else name}": path for name, path in model.newest.files.items()}


def _saved_models(model: ServedModel, wishes: Wishes) -> Files:
    """KServe starts TensorFlow Serving with `--model_base_path=/mnt/models`: versions without a folder of the model's name."""
    checked, _ = tfserving.repository(model, wishes)
    prefix = f"{tfserving.ROOT}/{model.name}/"
    return {f"{ROOT}/{path.removeprefix(prefix)}": file for path, file in checked.items() if path.startswith(prefix)}
