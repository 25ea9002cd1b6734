import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from fashion_infer.errors import UsageError
from fashion_infer.training.config import TrainConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int8"}, "precision must be one of fp32, bf16, fp16, got 'int8'"),
        ({"landmark_norm": "l3"}, "landmark_norm must be one of l1, l2, got 'l3'"),
        ({"augmentation": "mild"}, "augmentation must be one of light, strong, got 'mild'"),
        ({"backbone": "vgg16", "freeze_early": True}, "freeze_early is for timm's backbones"),
        ({"precision": "fp16"}, "fp16 trains on CUDA only"),
        ({"losses": ()}, "losses must be some of .*, got none"),
        ({"losses": ("landmarks", "style")}, "losses must be some of .*, got landmarks, style"),
        ({"losses": ("category", "category")}, "losses must be some of .*, each once"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": math.nan}, "epochs must be a whole number of at least 1, got nan"),
        ({"epochs": 2.5}, "epochs must be a whole number of at least 1, got 2.5"),
        ({"batch_size": 3}, "batch_size must be a whole number of at least 4"),
        ({"rounds": -1}, "rounds must be a whole number of at least 0"),
        ({"workers": math.inf}, "workers must be a whole number of at least 0"),
        ({"seed": "3"}, "seed must be a whole number of at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        ({"learning_rate": math.inf}, "learning_rate must be a number above 0"),
        ({"weight_decay": math.nan}, "weight_decay must be a number of at least 0"),
        ({"width": 0}, "width must be a number above 0"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(**settings)


def test_one_loss_without_a_tuple_is_not_taken_for_its_letters() -> None:
    with pytest.raises(TypeError, match="losses must be an iterable of several, not one str"):
        TrainConfig(losses="category")  # type: ignore[arg-type]


def test_settings_of_numpy_are_written_as_json() -> None:
    config = TrainConfig(epochs=np.int64(3), image_size=np.int32(64), learning_rate=np.float32(0.5))  # type: ignore[arg-type]
    written = json.loads(json.dumps(dataclasses.asdict(config)))
    assert (written["epochs"], written["image_size"], written["learning_rate"]) == (3, 64, 0.5)
