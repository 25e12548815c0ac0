"""A state dict: names and tensors, from safetensors or from PyTorch's own files, of which no code is run."""

import importlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuserve_images.export.backends.model import FailureError, one_line

torch: Any = importlib.import_module("torch")

ENDINGS = (".safetensors", ".pt", ".pth")
"""Files that may hold one."""

PROGRAM = "torch.export.save(torch.export.export(model, args, dynamic_shapes=...), 'model.pt2')"
"""How a program is saved, whose code needs no factory."""


def read(path: Path) -> Mapping[str, Any]:
    """Return a state dict; of a checkpoint with more beside it, such as an optimiser's state, the model's.

    Raises:
        FailureError: When the file holds something else, or objects that only code could make.
    """
    if path.suffix == ".safetensors":
        try:
            return importlib.import_module("safetensors.torch").load_file(path)
        except Exception as error:
            raise FailureError(
                f"cannot be read as safetensors: {one_line(error)}", "Save or copy the weights again."
            ) from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = f"holds objects that only your own code makes, and not tensors alone: {_named(error)}"
        fix = f"Save the weights, torch.save(model.state_dict(), 'model.pt'), or a program: {PROGRAM}."
        raise FailureError(reason, fix) from error
    except Exception as error:
        reason = f"cannot be read by PyTorch {torch.__version__}: {one_line(error)}"
        raise FailureError(reason, "Save or copy the weights again.") from error
    return _without_wrapper(_state(found))


def refuse_script(path: Path) -> None:
    """Refuse TorchScript, which any ending may hold.

    Raises:
        FailureError: When the file is that.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(Path(name).name == "constants.pkl" for name in archive.namelist()):
            raise FailureError("is TorchScript, which torch.export has replaced", f"Save a program: {PROGRAM}.")


def _named(error: Exception) -> str:
    """Return the first sentence that tells what was found; PyTorch says much about its settings around it."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return next((line[:300] for line in lines if "GLOBAL" in line or "Unsupported" in line), one_line(error)[:300])


def _state(found: Any) -> Mapping[str, Any]:
    if _is_state(found):
        return found
    inner = [value for value in found.values() if _is_state(value)] if isinstance(found, Mapping) else []
    if len(inner) == 1:
        return inner[0]
    what = f"a {type(found).__name__}" + (
        f" with the keys {', '.join(map(str, list(found)[:8]))}" if isinstance(found, Mapping) else ""
    )
    raise FailureError(
        f"holds {what}, and not the tensors of one model", "Save them: torch.save(model.state_dict(), 'model.pt')."
    )


def _is_state(found: Any) -> bool:
    return (
        isinstance(found, Mapping)
        and bool(found)
        and all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items())
    )


def _without_wrapper(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drop what DataParallel puts before every name."""
    wrapper = "module."
    return (
        {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
        if all(name.startswith(wrapper) for name in state)
        else state
    )
