"""The settings of a training run."""

import sys
from dataclasses import dataclass

from fashion_infer.arguments import LARGEST_SEED, number, several, whole_number
from fashion_infer.errors import UsageError
from fashion_infer.training.losses import LOSS_WEIGHTS

PRECISIONS = ("fp32", "bf16", "fp16")
# smallest values of the settings that are whole numbers
SMALLEST = {
    "image_size": 32,
    "pooled_size": 1,
    "bin_size": 1,
    "epochs": 1,
    "batch_size": 4,
    "rounds": 0,
    "workers": 0,
    "seed": 0,
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run.

    Attributes:
        backbone: `vgg16` for the paper's network, or the timm name of a backbone.
        image_size: Side of the network's input, pixels.
        width: Factor for the width of the heads and of vgg16's convolutions; 1 is the paper's width.
        pooling: Where the local branch pools features: `landmarks`, `grid` or `none`, see `Architecture`.
        gate: Whether features at invisible landmarks are set to 0.
        pooled_size: Bins along each side of a LandmarkPool window.
        bin_size: Cells along each side of a LandmarkPool bin.
        losses: Names of the losses to train with, out of `LOSS_WEIGHTS`.
        landmark_norm: Norm of the landmark loss: `l2` as in the paper, or `l1`, see `landmark_loss`.
        balanced: Give the positive and negative labels of an attribute equal total weight, as in the paper. Without it
            scores are closer to probabilities, and rare attributes are predicted less often.
        augmentation: `light` changes the box and the colours a little; `strong` also rotates, covers and blurs the
            picture and loosens the box.
        freeze_early: Do not train the backbone's layers before its stride-8 stage; not for vgg16.
        epochs: Passes over the training images.
        batch_size: Images per step, at least 4.
        learning_rate: Highest learning rate; it rises linearly at first and then falls to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
        rounds: Number of times that each of the two stages is trained; 0 trains everything jointly.
        precision: `fp32`, or `bf16` or `fp16` for autocast; fp16 needs CUDA.
        device: torch device: `cpu`, `cuda`, `cuda:0`, ...
        workers: Processes that decode images; 0 decodes in the main process.
        seed: Random seed.

    Raises:
        UsageError: A value that cannot be used.
    """

    backbone: str = "tf_efficientnet_lite0"
    image_size: int = 224
    width: float = 1.0
    pooling: str = "landmarks"
    gate: bool = True
    pooled_size: int = 4
    bin_size: int = 2
    losses: tuple[str, ...] = tuple(LOSS_WEIGHTS)
    landmark_norm: str = "l2"
    balanced: bool = True
    augmentation: str = "light"
    freeze_early: bool = False
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    rounds: int = 2
    precision: str = "fp32"
    device: str = "cpu"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in SMALLEST.items():  # plain numbers, because the settings are written as JSON
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, LARGEST_SEED))
        for name, above in (("learning_rate", True), ("weight_decay", False), ("width", True)):
            checked = number(name, getattr(self, name), 0, sys.float_info.max, above=above)
            object.__setattr__(self, name, checked)
        choices = {"precision": PRECISIONS, "landmark_norm": ("l1", "l2"), "augmentation": ("light", "strong")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.freeze_early and self.backbone == "vgg16":
            raise UsageError("freeze_early is for timm's backbones: vgg16 is trained as a whole")
        losses = several("losses", self.losses)
        if not losses or set(losses) - set(LOSS_WEIGHTS) or len(set(losses)) < len(losses):
            raise UsageError(
                f"losses must be some of {', '.join(LOSS_WEIGHTS)}, each once, got {', '.join(losses) or 'none'}"
            )
        if self.precision == "fp16" and self.device.startswith("cpu"):
            raise UsageError("fp16 trains on CUDA only: on a CPU choose bf16 or fp32")
