"""Every error this package raises on purpose, and the exit code the command line gives it.

FashionInferError
├── UsageError              2   an argument with a value that cannot be used
├── ModelNotFoundError      2   no such model file, no such backbone
├── ParityError             1   two runs of the same model disagree
├── PrecisionError          1   a model cannot have, or was not built with, the precision asked for
├── DataError               1   a malformed or missing annotation file
├── TrainingError           1   a run that cannot go on
├── BenchError              1   a benchmark that broke off, or slower than was allowed
├── OutputError             1   a file that cannot be written
├── ModelError              3   not a model of ours, or a damaged one
├── EngineBuildError        3   TensorRT could not build an engine
├── EngineMismatchError     3   an engine for another GPU, TensorRT or model, or one that was changed
├── DeviceError             3   the device asked for cannot be used
├── GalleryError            3   a gallery that cannot be opened, read or written
│   ├── GalleryMismatchError    a model of another embedding space than the gallery's
│   └── GalleryLockedError      another process writes to the gallery
├── MissingExtraError       3   an optional package is not installed
├── ImageError              4   an image or a box that cannot be used
├── QueueFullError              too many requests wait already
├── DeadlineExceededError       a request waited longer than it could
└── PredictorClosedError        the Predictor was closed

Each takes its message as the only argument, so that every error survives pickling. Each class has a page in the
documentation, docs/errors/NAME.md, and `help_url` is where that page is published.
"""

from typing import ClassVar

DOCUMENTATION = "https://fashion-infer.example/"  # site_url of mkdocs.yml; no real address before the site has one


class FashionInferError(Exception):
    """Base of every error of this package; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1

    @property
    def help_url(self) -> str:
        """The address of the page that tells causes and remedies of this kind of error."""
        return f"{DOCUMENTATION}errors/{type(self).__name__}/"


class UsageError(FashionInferError):
    """An argument has a value that cannot be used."""

    exit_code = 2


class ModelNotFoundError(FashionInferError):
    """There is no such model file, or no backbone of that name."""

    exit_code = 2


class ParityError(FashionInferError):
    """An exported model does not give what the model it was made from gives."""


class PrecisionError(FashionInferError):
    """A model cannot have the precision that was asked for, or was built with another."""


class DataError(FashionInferError):
    """An annotation file is missing or malformed; the message names file and line."""


class TrainingError(FashionInferError):
    """A training run cannot start or go on; its last good state is kept."""


class BenchError(FashionInferError):
    """A benchmark broke off, or a model became slower than was allowed."""


class OutputError(FashionInferError, OSError):
    """A file cannot be written: no room, no permission, no such folder; nothing half-written is left."""


class ModelError(FashionInferError):
    """A file is not a FashionNet of ours, is damaged, or was made for another release."""

    exit_code = 3


class EngineBuildError(FashionInferError):
    """TensorRT could not build an engine; the message says why and names the build log."""

    exit_code = 3


class EngineMismatchError(FashionInferError):
    """An engine was built for another GPU, TensorRT or model, or was changed; the message says what to run."""

    exit_code = 3


class DeviceError(FashionInferError):
    """The device that was asked for cannot be used here; nothing falls back to another."""

    exit_code = 3


class GalleryError(FashionInferError):
    """A gallery is none, damaged, of another release, or cannot be read or written."""

    exit_code = 3


class GalleryMismatchError(GalleryError):
    """A model's embeddings cannot be compared with a gallery's; the message names both and what to run."""


class GalleryLockedError(GalleryError):
    """Another process writes to the gallery; the message names it and its host."""


class MissingExtraError(FashionInferError):
    """An optional package is not installed; the message names the extra that brings it."""

    exit_code = 3


class ImageError(FashionInferError):
    """An image cannot be read, or a box lies outside it."""

    exit_code = 4


class QueueFullError(FashionInferError):
    """As many requests as are allowed wait already: try again later, or elsewhere."""


class DeadlineExceededError(FashionInferError):
    """The deadline of a request passed before the network could start on it."""


class PredictorClosedError(FashionInferError):
    """The Predictor was used after `close()`, or in a process forked from the one that loaded it."""


def missing_extra(package: str, extra: str, cause: ImportError) -> MissingExtraError:
    """The error for an optional package that cannot be imported, to be raised from the ImportError.

    Args:
        package: its name on PyPI.
        extra: of fashion-infer, which brings it.
        cause: why it cannot be imported: it is not there, or it is there and broken.
    """
    install = f'pip install "fashion-infer[{extra}]"'
    if isinstance(cause, ModuleNotFoundError):
        return MissingExtraError(f"{package} is not installed: {install} ({cause})")
    return MissingExtraError(
        f"{package} is installed but cannot be imported: {cause}; it may help to {install} --force-reinstall"
    )
