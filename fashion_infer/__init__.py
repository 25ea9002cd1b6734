"""fashion-infer: clothing category, attributes, landmarks and a retrieval embedding from one forward pass."""

from fashion_infer.conversions import to_classifications, to_coco, to_dataframe, to_detections, to_keypoints
from fashion_infer.errors import (
    BenchError,
    DataError,
    DeadlineExceededError,
    DeviceError,
    EngineBuildError,
    EngineMismatchError,
    FashionInferError,
    GalleryError,
    GalleryLockedError,
    GalleryMismatchError,
    ImageError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
    OutputError,
    ParityError,
    PrecisionError,
    PredictorClosedError,
    QueueFullError,
    TrainingError,
    UsageError,
)
from fashion_infer.gallery import Gallery
from fashion_infer.model_spec import ModelSpec
from fashion_infer.prediction import Label, Landmark, Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.telemetry import switch_off as _switch_off_telemetry

_switch_off_telemetry()  # none of the imports above loads a runtime

__version__ = "0.1.0"

__all__ = [
    "BenchError",
    "DataError",
    "DeadlineExceededError",
    "DeviceError",
    "EngineBuildError",
    "EngineMismatchError",
    "FashionInferError",
    "Gallery",
    "GalleryError",
    "GalleryLockedError",
    "GalleryMismatchError",
    "ImageError",
    "Label",
    "Landmark",
    "MissingExtraError",
    "ModelError",
    "ModelNotFoundError",
    "ModelSpec",
    "OutputError",
    "ParityError",
    "PrecisionError",
    "Prediction",
    "Predictor",
    "PredictorClosedError",
    "QueueFullError",
    "TrainingError",
    "UsageError",
    "to_classifications",
    "to_coco",
    "to_dataframe",
    "to_detections",
    "to_keypoints",
]
