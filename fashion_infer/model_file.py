"""The one reader of model files: their hash, what they say of themselves, and whether that is true."""

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
    """A model file that is being loaded; `check_unchanged` at the end, so that what was hashed is what was loaded.

    Attributes:
        path: where it is.
        size: bytes.
        stamp: what the file system says of it: another file, or other content, has another.
    """

    path: Path
    size: int
    stamp: tuple[int, ...]

    @cached_property
    def sha256(self) -> str:
        """Of the content, in hexadecimal; read once."""
        return sha256_of(self.path)

    def check_unchanged(self) -> None:
        """Raise ModelError where the file was changed or replaced since `read_model`."""
        if not self.path.is_file() or _stamp(self.path) != self.stamp:
            raise ModelError(f"{self.path} was changed while it was loaded: load it again")


def read_model(model: "Path | ModelFile", *, require_hash: str | None = None) -> ModelFile:
    """Begin to load a model file: see that it is there, and the one that is expected.

    Args:
        model: its path; a ModelFile is given back as it is.
        require_hash: sha256 that it must have, in hexadecimal.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: it cannot be read, has another hash, or is a damaged built-in model.
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
        if require_hash is not None and file.sha256 != require_hash.lower():
            raise ModelError(
                f"{model} has sha256 {file.sha256}, expected {require_hash}: it is another file, or was changed"
            )
    except OSError as error:
        raise ModelError(f"{model} cannot be read: {error.strerror or error}") from error
    return file


def _stamp(path: Path) -> tuple[int, ...]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def read_spec(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    """The ModelSpec among an ONNX file's own notes.

    Raises:
        ModelError: there is none, or it cannot be read.
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
        path: of the file.
        spec: of the model.
        shapes: of each input and output, without the batch.

    Raises:
        ModelError: they differ.
    """
    expected = {INPUT_NAME: (spec.image_size, spec.image_size, 3), **spec.output_shapes()}
    if shapes != expected:
        raise ModelError(f"{path} has inputs and outputs {shapes}, its ModelSpec says {expected}")


def parse_onnx(file: ModelFile, *, extra: str) -> "tuple[onnx.ModelProto, ModelSpec]":
    """An ONNX file as a graph that can be changed, and its ModelSpec; for what loads it as it is, `onnx` is not needed.

    Args:
        file: from `read_model`.
        extra: that brings `onnx` where it is missing.

    Raises:
        ModelError: not an ONNX file, damaged, or not one of ours.
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
