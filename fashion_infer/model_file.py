"""The reader of model files, which all backends use: the file's hash, its ModelSpec, and checks of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_infer.errors import ModelError, ModelNotFoundError, missing_extra
from fashion_infer.files import sha256_of
from fashion_infer.model_spec import INPUT_NAME, METADATA_KEY, ModelSpec
from fashion_infer.models import shipped_sha256

if TYPE_CHECKING:
    import onnx

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ModelFile:
    """A model file that is being loaded. Call `check_unchanged` after loading: the loaded file is then the hashed one.

    Attributes:
        path: path of the file.
        size: size of the file, bytes.
        stamp: device, inode, size and time of the last change; it differs after the file is changed or replaced.
    """

    path: Path
    size: int
    stamp: tuple[int, ...]

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the content, in hexadecimal; computed once."""
        return sha256_of(self.path)

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was changed or replaced since `read_model`."""
        if not self.path.is_file() or _stamp(self.path) != self.stamp:
            raise ModelError(f"{self.path} was changed while it was loaded: load it again")


def read_model(model: "Path | ModelFile", *, require_hash: str | None = None) -> ModelFile:
    """Begin to load a model file: check that it exists and has the expected hash.

    Args:
        model: path of the file; a ModelFile is returned unchanged.
        require_hash: sha256 that the file must have, in hexadecimal; None accepts any file.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: the file cannot be read, has another hash, or is a damaged built-in model.
    """
    if isinstance(model, ModelFile):
        return model
    shipped = shipped_sha256(model)
    if not model.is_file():
        raise ModelNotFoundError(f"there is no model file {model}") if shipped is None else _damaged(model)
    try:
        file = ModelFile(model, model.stat().st_size, _stamp(model))
        if shipped is not None and file.sha256 != shipped:
            raise _damaged(model)
        if require_hash is not None and file.sha256 != str(require_hash).lower():
            raise ModelError(
                f"{model} has sha256 {file.sha256}, expected {require_hash}: it is another file, or was changed"
            )
    except OSError as error:
        raise ModelError(f"{model} cannot be read: {error.strerror or error}") from error
    return file


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_spec(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    """Read the ModelSpec from the metadata of an ONNX file.

    Args:
        path: path of the file, for error messages.
        metadata: the file's metadata properties.

    Raises:
        ModelError: the metadata has no ModelSpec, or one that cannot be read.
    """
    if METADATA_KEY not in metadata:
        raise ModelError(f"{path} is an ONNX file, but not one that fashion-infer export wrote (no {METADATA_KEY})")
    try:
        return ModelSpec.from_json(metadata[METADATA_KEY])
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def check_shapes(path: Path, spec: ModelSpec, shapes: Shapes) -> None:
    """Compare the inputs and outputs of a network with what its ModelSpec says.

    Args:
        path: path of the file, for error messages.
        spec: the model's specification.
        shapes: shape of each input and output by name, without the batch axis.

    Raises:
        ModelError: the shapes differ from those of the ModelSpec.
    """
    expected = {INPUT_NAME: (spec.image_size, spec.image_size, 3), **spec.output_shapes()}
    if shapes != expected:
        raise ModelError(f"{path} has inputs and outputs {shapes}, its ModelSpec says {expected}")


def parse_onnx(file: ModelFile, *, extra: str) -> "tuple[onnx.ModelProto, ModelSpec]":
    """Read an ONNX file as a graph that can be modified, and its ModelSpec.

    This needs the package `onnx`. Backends that load the file unmodified do not call this function.

    Args:
        file: the file, from `read_model`.
        extra: name of the extra that installs `onnx`, for the error message.

    Raises:
        ModelError: the file is not an ONNX file, is damaged, or was not written by `fashion-infer export`.
        MissingExtraError: `onnx` is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise missing_extra(error.name or "onnx", extra, error) from error
    try:
        model = onnx.load(file.path)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{file.path} is not an ONNX file, or is damaged: {error}") from error
    return model, read_spec(file.path, {entry.key: entry.value for entry in model.metadata_props})


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"the built-in model {path.stem} is damaged ({path} does not have the sha256 that it was shipped with): "
        "pip install --force-reinstall --no-deps fashion-infer"
    )
