"""From a source model to one checked ONNX file, and the source model itself as something that can be asked."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from gpuserve_images.errors import ExportError, ImageError
from gpuserve_images.export.environments import BACKENDS, Framework, environment
from gpuserve_images.export.missing import require_same
from gpuserve_images.export.processes import ExportProcess
from gpuserve_images.export.spec import ExportSpec
from gpuserve_images.export.tidying import require_names, tidy
from gpuserve_images.onnx_model.files import check, external_files, load
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import DATA_TYPES, DYNAMIC, Signature, TensorSpec, read_signature
from gpuserve_images.records import Progress, StageRecord, sha256_file, sha256_json, silent
from gpuserve_images.samples.codec import Tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMPY_OF = dict(DATA_TYPES.values())
DTYPE_OF = {numpy: dtype for dtype, numpy in NUMPY_OF.items()}
DEFAULT = ExportSpec()

_TABULAR: tuple[Framework, ...] = ("sklearn", "xgboost", "lightgbm")
"""Frameworks that compute in types of their own, whatever the type of the numbers that they are asked with."""


class Files(Protocol):
    """What the export needs to know of a fetched source.

    Attributes:
        entry: The model file, or the folder of a SavedModel.
        sha256: Digest of the whole source.
    """

    @property
    def entry(self) -> Path:
        """The model file, or the folder of a SavedModel."""
        ...

    @property
    def sha256(self) -> str:
        """Digest of the whole source."""
        ...


class SourceRunner:
    """A source model in its own framework, in a process of its own; a context manager that ends that process."""

    def __init__(self, path: Path, kind: Framework, spec: ExportSpec, folder: Path) -> None:
        """Load the model; see `source_runner`."""
        self._path = path
        self._environment = environment(kind)
        self._process = ExportProcess(self._environment.python, str(path))
        try:
            description, _ = self._process.ask(
                {
                    "do": "load",
                    "backend": BACKENDS[kind].module,
                    "path": str(path.resolve()),
                    "wishes": _wishes(spec, folder),
                    "packages": list(self._environment.versions),
                }
            )
            inputs, outputs = (tuple(_tensor(port) for port in description[role]) for role in ("inputs", "outputs"))
            self.signature = Signature(inputs=inputs, outputs=outputs, opset=0)
            self.notes: tuple[str, ...] = tuple(description["notes"])
            self.tools: dict[str, str] = description["tools"]
            self._refuse_unusable(spec)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the framework's process."""
        self.close()

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return [tensor.name for tensor in self.signature.outputs]

    def run(self, inputs: "Mapping[str, NDArray[Any]]", /) -> Tensors:
        """Return the outputs by name, computed by the framework itself.

        Raises:
            ExportError: When the framework refuses these inputs, or ended.
        """
        return self._process.ask({"do": "run"}, inputs)[1]

    def missing(self) -> Tensors:
        """Return pairs of rows that the framework answers: a whole one, and the same with a number missing; empty where there are none.

        Raises:
            ExportError: When the framework ended.
        """
        return self._process.ask({"do": "missing"})[1]

    def export(self, out: Path) -> None:
        """Write the model as ONNX, as its converter leaves it.

        Raises:
            ExportError: When an operator or estimator has no ONNX form; it is named.
        """
        self._process.ask({"do": "export", "out": str(out.resolve())})

    def close(self) -> None:
        """End the framework's process."""
        self._process.close()

    def _refuse_unusable(self, spec: ExportSpec) -> None:
        tensors = (*self.signature.inputs, *self.signature.outputs)
        if not self.signature.inputs or not self.signature.outputs:
            role = "outputs" if self.signature.inputs else "inputs"
            raise ExportError(str(self._path), f"has no {role}", f"Save a model that has {role}: a server answers requests.")
        require_names(tensors, str(self._path))
        fixed = next((tensor for tensor in tensors if tensor.shape[:1] != (DYNAMIC,)), None)
        if spec.batch and fixed is not None:
            reason = f"has no free batch axis: {fixed.name!r} has the shape {list(fixed.shape)}"
            fix = "Save the model with a first axis of any size, or declare `export: {batch: false}`."
            raise ExportError(str(self._path), reason, fix)


def source_runner(files: Files, kind: Framework, spec: ExportSpec = DEFAULT, *, folder: Path) -> SourceRunner:
    """Load a source model in its own framework, so that parity is measured against the true source.

    Args:
        files: The fetched source.
        kind: Its format.
        spec: How it is exported: it says what the inputs are called, too.
        folder: Folder of the model's YAML file, which `factory` is relative to.

    Raises:
        ExportError: When the framework is not installed (the extra is named), or cannot use the file.
    """
    return SourceRunner(files.entry, kind, spec, folder)


def export(  # noqa: PLR0913 - keywords of one public call
    files: Files, kind: Framework, spec: ExportSpec, out: Path, progress: Progress = silent, *, folder: Path
) -> StageRecord:
    """Write a source model as one ONNX file.

    Args:
        files: The fetched source.
        kind: Its format.
        spec: How it is exported.
        out: Where to write the file; more than 1.5 GB of weights come to lie beside it.
        progress: Told when each part begins.
        folder: Folder of the model's YAML file, which `factory` is relative to.

    Raises:
        ExportError: When the framework is not installed (the extra is named), the file is unusable, or something in it has no
            ONNX form; it is named.
        SourceError: When what was written is no valid ONNX model.
    """
    progress("export", 0, 3)
    with source_runner(files, kind, spec, folder=folder) as runner, _advising_fp32(kind, spec, files, out):
        progress("export", 1, 3)
        runner.export(out)
        progress("export", 2, 3)
        tidy(out, runner.signature.inputs, runner.signature.outputs, str(files.entry))
        check(out)
        missing = runner.missing()
        if missing:
            require_same(runner.run(missing), Session(out).run(missing), str(files.entry))
        written = read_signature(out)
        difference = runner.signature.difference(written)
        if difference:
            reason = f"became another interface as ONNX: {difference}"
            raise ExportError(str(files.entry), reason, "Report this model, or export it to ONNX yourself.")
    progress("export", 3, 3)
    beside = {file.name: sha256_file(file) for file in external_files(load(out), out)}
    return StageRecord(
        stage="export",
        inputs={"source": files.sha256, **_factory(spec, folder)},
        options={"format": kind, **spec.model_dump(mode="json")},
        outputs={out.name: sha256_file(out), **beside},
        tools=runner.tools,
        notes=runner.notes,
    )


@contextmanager
def _advising_fp32(kind: Framework, spec: ExportSpec, files: Files, out: Path) -> Generator[None]:
    """Say what helps where a tabular model in FP64 has no ONNX form, or one that ONNX Runtime has no kernels for: it has few in FP64.

    Raises:
        ExportError: In place of what the block raises.
    """
    if kind not in _TABULAR or all(declared.dtype != "FP64" for declared in spec.inputs):
        yield
        return
    try:
        yield
        Session(out)
    except ImageError as error:
        fix = "Declare the inputs as FP32, the default (`dtype: FP32` in `export.inputs`): estimators and kernels have few forms in FP64."
        raise ExportError(str(files.entry), error.reason, fix, value=error.value) from error


def identity(kind: Framework, spec: ExportSpec, folder: Path) -> str:
    """Return the digest of all that decides an export besides the source: options, versions and the factory's code.

    Raises:
        ExportError: When the framework is not installed, or the factory's file is missing.
    """
    versions = environment(kind).versions
    return sha256_json({"format": kind, **spec.model_dump(mode="json"), "tools": versions, **_factory(spec, folder)})


def _factory(spec: ExportSpec, folder: Path) -> dict[str, str]:
    """Return the digest of the factory's file, by role; nothing when it comes from a package or there is none."""
    path = _factory_file(spec, folder)
    if path is None:
        return {}
    if not path.is_file():
        reason = f"does not exist (looked for {path})"
        raise ExportError("export.factory", reason, "Name a Python file beside the model's YAML.", value=spec.factory)
    return {"factory": sha256_file(path)}


def _factory_file(spec: ExportSpec, folder: Path) -> Path | None:
    name = (spec.factory or "").partition(":")[0]
    return (folder / name).resolve() if name.endswith(".py") else None


def _wishes(spec: ExportSpec, folder: Path) -> dict[str, Any]:
    _factory(spec, folder)
    plain = spec.model_dump(mode="json")
    for declared in plain["inputs"]:
        declared["dtype"] = NUMPY_OF[declared["dtype"]]
    file = _factory_file(spec, folder)
    if file is not None:
        plain["factory"] = f"{file}:{(spec.factory or '').partition(':')[2]}"
    return plain


def _tensor(port: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name=port["name"], dtype=DTYPE_OF[port["dtype"]], shape=tuple(port["shape"]))
