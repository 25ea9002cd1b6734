"""All errors that this package raises on purpose, and the exit code of the command line for each.

FashionInferError
├── UsageError              2   an argument has an unusable value
├── ModelNotFoundError      2   there is no such model file or backbone
├── ParityError             1   two versions of the same model give different results
├── PrecisionError          1   a model cannot have, or does not have, the requested precision
├── DataError               1   an annotation file is malformed or missing
├── TrainingError           1   a training run cannot start or continue
├── BenchError              1   a benchmark failed, or the model was slower than allowed
├── OutputError             1   a file cannot be written
├── ModelError              3   a file is not one of our models, or is damaged
├── EngineBuildError        3   TensorRT could not build an engine
├── EngineMismatchError     3   an engine is for another GPU, TensorRT or model, or was changed
├── DeviceError             3   the requested device cannot be used
├── GalleryError            3   a gallery cannot be opened, read or written
│   ├── GalleryMismatchError    the model's embeddings are not comparable with the gallery's
│   └── GalleryLockedError      another process writes to the gallery
├── MissingExtraError       3   an optional package is not installed
├── ImageError              4   an image or a box cannot be used
├── QueueFullError              too many requests are already waiting
├── DeadlineExceededError       the deadline of a request passed
└── PredictorClosedError        the Predictor was closed

The message is the only argument of each class, so that every error survives pickling. Each class has a page in the
documentation, docs/errors/NAME.md, and `help_url` is the address of the published page.
"""

from typing import ClassVar

DOCUMENTATION = (
    "https://fashion-infer.example/"  # equal to site_url in mkdocs.yml; a placeholder until the site is published
)


class FashionInferError(Exception):
    """Base of all errors of this package; `exit_code` is the exit code of the command line."""

    exit_code: ClassVar[int] = 1

    @property
    def help_url(self) -> str:
        """The address of the page about the causes and remedies of this kind of error."""
        return f"{DOCUMENTATION}errors/{type(self).__name__}/"


class UsageError(FashionInferError):
    """An argument has a value that cannot be used."""

    exit_code = 2


class ModelNotFoundError(FashionInferError):
    """There is no such model file, or no backbone of that name."""

    exit_code = 2


class ParityError(FashionInferError):
    """The results of an exported or converted model differ from those of the model that it was made from."""


class PrecisionError(FashionInferError):
    """A model cannot have the requested precision, or was built with another one."""


class DataError(FashionInferError):
    """An annotation file is missing or malformed; the message names the file and the line."""


class TrainingError(FashionInferError):
    """A training run cannot start or continue; its last checkpoint is kept."""


class BenchError(FashionInferError):
    """A benchmark failed, or a model became slower than allowed."""


class OutputError(FashionInferError, OSError):
    """A file cannot be written, such as for lack of space or permission; no incomplete file is left."""


class ModelError(FashionInferError):
    """A file is not a model that this package exported, is damaged, or was made for another release."""

    exit_code = 3


class EngineBuildError(FashionInferError):
    """TensorRT could not build an engine; the message says why and names the build log."""

    exit_code = 3


class EngineMismatchError(FashionInferError):
    """An engine was built for another GPU, TensorRT or model, or was changed; the message says what to run."""

    exit_code = 3


class DeviceError(FashionInferError):
    """The requested device cannot be used; nothing falls back to another device."""

    exit_code = 3


class GalleryError(FashionInferError):
    """A gallery is missing, damaged, from another release, or cannot be read or written."""

    exit_code = 3


class GalleryMismatchError(GalleryError):
    """A model's embeddings are not comparable with a gallery's; the message names both and says what to run."""


class GalleryLockedError(GalleryError):
    """Another process writes to the gallery; the message names the process and its host."""


class MissingExtraError(FashionInferError):
    """An optional package is not installed; the message names the extra that brings it."""

    exit_code = 3


class ImageError(FashionInferError):
    """An image cannot be read, or a box lies outside it."""

    exit_code = 4


class QueueFullError(FashionInferError):
    """The queue of waiting requests is full: try again later."""


class DeadlineExceededError(FashionInferError):
    """The deadline of a request passed before the network could start on it."""


class PredictorClosedError(FashionInferError):
    """The Predictor was used after `close()`, or in a process forked from the one that loaded it."""


def missing_extra(package: str, extra: str, cause: ImportError) -> MissingExtraError:
    """Make the error for an optional package that cannot be imported; raise it from the ImportError.

    Args:
        package: the package's name on PyPI.
        extra: the extra of fashion-infer that installs the package.
        cause: the ImportError; a ModuleNotFoundError means that the package is not installed, any other that it is
            broken.
    """
    install = f'pip install "fashion-infer[{extra}]"'
    if isinstance(cause, ModuleNotFoundError):
        return MissingExtraError(f"{package} is not installed: {install} ({cause})")
    return MissingExtraError(
        f"{package} is installed but cannot be imported: {cause}; it may help to {install} --force-reinstall"
    )
