"""FashionNet (Liu et al., "DeepFashion", CVPR 2016): the paper's VGG-16 network, and variants on lighter backbones.

images -> backbone -> pose: landmarks, visibility
                   -> local: features pooled at those landmarks, gated by their visibility
                   -> global: the whole garment
          local + global -> fused -> category, attributes
                   -> embedding: from the fused features, or from these and the means of the backbone's stages

Category and attributes are predicted from the fused features, or, in networks with own categories, from the means of
the backbone's stages, the fused features and the embedding together.
"""

import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fashion_infer.arguments import number, whole_number
from fashion_infer.errors import ModelNotFoundError, UsageError, missing_extra
from fashion_infer.model_spec import LANDMARK_NAMES, OUTPUT_NAMES, VISIBILITY_NAMES
from fashion_infer.training.landmark_pool import landmark_pool

POINTS = len(LANDMARK_NAMES)
VISIBILITIES = len(VISIBILITY_NAMES)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAPER_WIDTHS = (1024, 4096, 1024, 4096)  # pose, global, local, fused
LIGHT_WIDTHS = (128, 512, 256, 512)  # the same layers for light backbones: about as many weights as the backbone
POOLINGS = ("landmarks", "grid", "none")
EMBEDDINGS = ("fused", "stages")
HEADS = ("fused", "all")
HIGHEST = 6.0  # standardised features are clipped to +-6, so that no single one can dominate the embedding
GRID = [((i % 2 + 0.5) / 2, (i // 2 + 0.5) / 4) for i in range(POINTS)]  # (x, y): two columns, four rows
VGG16_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


# smallest allowed values of an Architecture's whole numbers
SMALLEST = {
    "image_size": 32,
    "num_categories": 1,
    "num_attributes": 0,
    "embedding_dim": 1,
    "pooled_size": 1,
    "bin_size": 1,
}


@dataclass(frozen=True)
class Architecture:
    """The settings that determine a FashionNet's layers; a checkpoint stores them.

    Attributes:
        backbone: `vgg16` for the paper's network, or the timm name of a backbone with a stride-8 stage.
        image_size: Side of the square input, pixels; a multiple of 32.
        num_categories: C, number of categories.
        num_attributes: A, number of attributes.
        embedding_dim: D, length of the embedding.
        width: Factor for the width of every head and, with vgg16, of every convolution; 1 is the paper's width.
        pooled_size: Bins along each side of a LandmarkPool window.
        bin_size: Cells along each side of a LandmarkPool bin.
        pooling: Where the local branch pools features: at the predicted `landmarks` as in the paper, at the fixed
            points of a `grid`, or nowhere (`none`: there is no local branch).
        gate: Whether features at landmarks that are predicted as not visible are set to 0; a grid has no gate.
        embedding: Inputs of the embedding: the `fused` features, as in the paper, or these and the spatial means of the
            backbone's `stages` from stride 8 on, which hold details that the fused features lose; not for vgg16.
        heads: Inputs of the category and attribute layers: the `fused` features, as in the paper, or `all` of the
            spatial means of the backbone's stages, the fused features and the embedding.
    """

    backbone: str
    image_size: int
    num_categories: int
    num_attributes: int
    embedding_dim: int = 256
    width: float = 1.0
    pooled_size: int = 4
    bin_size: int = 2
    pooling: str = "landmarks"
    gate: bool = True
    embedding: str = "fused"
    heads: str = "fused"

    def __post_init__(self) -> None:
        for name, low in SMALLEST.items():  # plain numbers, because they are written as JSON
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low))
        object.__setattr__(self, "width", number("width", self.width, 0, sys.float_info.max, above=True))
        if self.image_size % 32:
            raise UsageError(f"image_size must be a multiple of 32, got {self.image_size}")
        if self.pooling not in POOLINGS:
            raise UsageError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}")
        if self.embedding not in EMBEDDINGS:
            raise UsageError(f"embedding must be one of {', '.join(EMBEDDINGS)}, got {self.embedding!r}")
        if self.heads not in HEADS:
            raise UsageError(f"heads must be one of {', '.join(HEADS)}, got {self.heads!r}")
        if self.embedding == "stages" and self.backbone == "vgg16":
            raise UsageError("an embedding of stages is for timm's backbones: the paper's is of the fused features")


class FashionNet(nn.Module):
    """The network. With the paper's backbone the pose head is fully connected; with light ones it uses heat maps."""

    mean: Tensor
    std: Tensor
    grid: Tensor

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        paper = arch.backbone == "vgg16"
        self.backbone: Vgg16 | TimmBackbone = Vgg16(arch.width) if paper else TimmBackbone(arch.backbone)
        self.register_buffer("mean", 255 * torch.tensor(self.backbone.mean), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(self.backbone.std), persistent=False)
        features, deep = self.backbone.channels
        deep_features = deep * (arch.image_size // 32) ** 2 if paper else deep
        pose, whole, local, fused = (round(arch.width * n) for n in (PAPER_WIDTHS if paper else LIGHT_WIDTHS))
        self.squeeze: nn.Module = nn.Flatten() if paper else GlobalAverage()
        self.pose = FullyConnectedPose(deep_features, pose) if paper else HeatMapPose(features, deep, pose)
        dropout = 0.5 if paper else 0.2
        self.fc6_global = _dense(deep_features, whole, dropout)
        if arch.pooling == "none":
            local = 0
        else:
            self.fc6_local = _dense(POINTS * features * arch.pooled_size**2, local, dropout)
        self.register_buffer("grid", torch.tensor(GRID), persistent=False)
        self.fc7_fusion = _dense(whole + local, fused, dropout)
        self.blocks = (*self.backbone.stage_channels, fused, arch.embedding_dim) if arch.heads == "all" else (fused,)
        self.category = nn.Linear(sum(self.blocks), arch.num_categories)
        self.attributes = _Head(sum(self.blocks), arch.num_attributes)
        self.embedding: nn.Linear | StandardisedLinear
        if isinstance(self.backbone, TimmBackbone) and arch.embedding == "stages":
            self.embedding = StandardisedLinear(sum(self.backbone.stage_channels) + fused, arch.embedding_dim)
        else:
            self.embedding = nn.Linear(fused, arch.embedding_dim)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Run the network.

        Args:
            images: uint8 [N, S, S, 3] RGB.

        Returns:
            A dict with `category`, logits [N, C]; `attributes`, logits [N, A]; `landmarks`, [N, 8, 2] as (x, y) in
            shares of the image's side, in [0, 1]; `visibility`, logits [N, 8, 3] for visible, occluded and truncated;
            and `embedding`, [N, D] of unit length.
        """
        x = (images.float() - self.mean) / self.std
        return self.heads(self.backbone(x.permute(0, 3, 1, 2)))

    def heads(self, maps: "Maps", pool_at: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        """Run everything behind the backbone.

        Args:
            maps: Outputs of the backbone.
            pool_at: Landmarks [N, 8, 2] and gates [N, 8] to use instead of the predicted ones.

        Returns:
            The outputs, see `forward`.
        """
        features, pose_map, global_map = maps.stages[0], maps.pose, maps.whole
        landmarks, visibility = self.pose(features, self.squeeze(pose_map), pose_map)
        whole = self.fc6_global(self.squeeze(global_map))
        local = []
        if self.arch.pooling != "none":
            local.append(self._local(features, *(pool_at or self._points(landmarks, visibility))))
        fused = self.fc7_fusion(torch.cat([whole, *local], 1))
        embedding = F.normalize(self.embedding(self._embedded(maps, fused)).float(), dim=1)
        features = self._features(maps, fused, embedding)
        return {
            "category": self.category(features),
            "attributes": self.attributes(features),
            "landmarks": landmarks,
            "visibility": visibility,
            "embedding": embedding,
        }

    def _embedded(self, maps: "Maps", fused: Tensor) -> Tensor:
        """Return the inputs of the embedding layer, [N, F]."""
        if self.arch.embedding == "fused":
            return fused
        return torch.cat([*(stage.mean((2, 3)) for stage in maps.stages), fused], 1)

    def _features(self, maps: "Maps", fused: Tensor, embedding: Tensor) -> Tensor:
        """Return the inputs of the category and attribute layers, [N, sum of `blocks`]."""
        if self.arch.heads == "fused":
            return fused
        return torch.cat([*(stage.mean((2, 3)) for stage in maps.stages), fused, embedding.to(fused.dtype)], 1)

    def _points(self, landmarks: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points at which the local branch pools, [N, 8, 2], and their gates, [N, 8]."""
        gate = (visibility.float().softmax(-1)[..., 0] > 0.5).float()
        points = landmarks.detach()
        if self.arch.pooling == "grid":
            points = self.grid.expand_as(points)
        if self.arch.pooling == "grid" or not self.arch.gate:
            gate = torch.ones_like(gate)
        return points, gate

    def _local(self, features: Tensor, points: Tensor, gate: Tensor) -> Tensor:
        """Return the features of the local branch, [N, F]."""
        pooled = landmark_pool(features, points, gate.to(features.dtype), self.arch.pooled_size, self.arch.bin_size)
        local: Tensor = self.fc6_local(pooled.flatten(1))
        return local


class Maps(NamedTuple):
    """The feature maps that a backbone computes.

    Attributes:
        stages: Outputs of the stages from stride 8 on; the first, [N, C, S / 8, S / 8], is for LandmarkPool.
        pose: [N, D, S / 32, S / 32], input of the pose branch.
        whole: [N, D, S / 32, S / 32], input of the global branch, which sees the whole garment.
    """

    stages: tuple[Tensor, ...]
    pose: Tensor
    whole: Tensor


class StandardisedLinear(nn.Module):
    """A linear layer on features that are standardised to mean 0 and deviation 1 and then clipped.

    `mean` and `scale` (one over the standard deviation), each [F], are measured on the training pictures. Until then
    they are 0 and 1 and leave the features unchanged.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [N, F] to outputs [N, D]."""
        y: Tensor = self.linear(((x - self.mean) * self.scale).clamp(-HIGHEST, HIGHEST))
        return y


class Deployed(nn.Module):
    """A FashionNet with the outputs of an exported file: probabilities, in the order of `OUTPUT_NAMES`."""

    def __init__(self, model: FashionNet, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 [N, S, S, 3] RGB pictures to the float32 tensors that `Predictor.run` returns."""
        outputs = self.model(images)
        outputs["category"] = (outputs["category"] / self.temperature).softmax(1)
        outputs["attributes"] = outputs["attributes"].sigmoid()
        outputs["visibility"] = outputs["visibility"].softmax(2)
        return tuple(outputs[name].float() for name in OUTPUT_NAMES)


class Vgg16(nn.Module):
    """VGG-16's convolutions: shared up to conv4_3, then one conv5 for the pose and one for the whole garment."""

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, width: float) -> None:
        super().__init__()
        blocks = [[max(1, round(width * c)) for c in block] for block in VGG16_CHANNELS]
        self.channels = blocks[3][-1], blocks[4][-1]
        self.stage_channels: tuple[int, ...] = self.channels[:1]
        layers, before = nn.Sequential(), 3
        for block in blocks[:4]:
            layers.extend([*_convolutions(before, block), nn.MaxPool2d(2)])
            before = block[-1]
        self.conv4 = layers[:-1]  # without the pooling after conv4_3, which both branches start with
        self.conv5_pose = nn.Sequential(layers[-1], *_convolutions(before, blocks[4]), nn.MaxPool2d(2))
        self.conv5_global = nn.Sequential(layers[-1], *_convolutions(before, blocks[4]), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Maps:
        """Map [N, 3, S, S] to conv4_3 at stride 8 and the conv5 of the pose and global branches at stride 32."""
        conv4: Tensor = self.conv4(x)
        return Maps((conv4,), self.conv5_pose(conv4), self.conv5_global(conv4))


class TimmBackbone(nn.Module):
    """A timm backbone: its stride-8 stage feeds LandmarkPool, its last stage feeds both other branches."""

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            import timm
            from timm.models.efficientnet import EfficientNetFeatures
        except ImportError as error:
            raise missing_extra("timm", "export", error) from error
        if not timm.is_model(name):
            similar = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8]) or "see timm.list_models()"
            raise ModelNotFoundError(f"timm has no backbone {name!r} ({similar}); the paper's is vgg16")
        probe: Any = timm.create_model(name, features_only=True)
        reductions = probe.feature_info.reduction()
        if 8 not in reductions:
            raise UsageError(f"{name} has no stage of stride 8 for LandmarkPool, its strides are {reductions}")
        net: Any = timm.create_model(
            name, features_only=True, out_indices=tuple(range(reductions.index(8), len(reductions)))
        )
        self.net: nn.Module = net
        stride_8 = str(probe.feature_info.module_name(reductions.index(8)))
        self.stride_8 = stride_8.replace(".", "_")
        # timm gives one output per stride, but an EfficientNet has two stages of some strides. Each stage is one of its
        # blocks.
        self.first_block = int(stride_8.removeprefix("blocks.")) if isinstance(net, EfficientNetFeatures) else None
        self.stage_channels = self._count_channels()
        self.channels = self.stage_channels[0], self.stage_channels[-1]
        config = timm.get_pretrained_cfg(name)
        self.mean: tuple[float, ...] = config.mean if config else IMAGENET_MEAN
        self.std: tuple[float, ...] = config.std if config else IMAGENET_STD

    def forward(self, x: Tensor) -> Maps:
        """Map [N, 3, S, S] to the outputs of the stages from stride 8 on, the last of them for both branches."""
        stages = self._stages(x)
        return Maps(stages, stages[-1], stages[-1])

    def _stages(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.first_block is None:
            return tuple(self.net(x))
        net: Any = self.net
        x = net.bn1(net.conv_stem(x))
        outputs = [x := block(x) for block in net.blocks]
        return tuple(outputs[self.first_block :])

    @torch.no_grad()
    def _count_channels(self) -> tuple[int, ...]:
        self.net.eval()  # so that no batch normalisation learns from the zeros
        channels = tuple(stage.shape[1] for stage in self._stages(torch.zeros(1, 3, 32, 32)))
        self.net.train()
        return channels

    def early_layers(self) -> list[nn.Module]:
        """Return the layers before the stride-8 stage; they detect edges and textures, as learnt on ImageNet."""
        layers = [module for module in self.net.modules() if next(module.parameters(recurse=False), None) is not None]
        names = {module: name.replace(".", "_") for name, module in self.net.named_modules()}
        first = next(i for i, layer in enumerate(layers) if names[layer].startswith(self.stride_8))
        return layers[:first]


class GlobalAverage(nn.Module):
    """Spatial mean. nn.AdaptiveAvgPool2d would be exported with a needless Gather node beside the mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Average [N, C, H, W] over H and W, to [N, C]."""
        return x.mean((2, 3))


class FullyConnectedPose(nn.Module):
    """The paper's pose head: fc6_pose, fc7_pose, then the locations and visibilities of the 8 landmarks."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.fc6_pose = _dense(features, width, 0.5)
        self.fc7_pose = _dense(width, width, 0.5)
        self.landmarks = nn.Linear(width, POINTS * 2)
        self.visibility = nn.Linear(width, POINTS * VISIBILITIES)
        nn.init.constant_(self.landmarks.bias, 0.5)  # the middle of the image
        _open_gates(self.visibility)

    def forward(self, features: Tensor, deep: Tensor, deep_map: Tensor) -> tuple[Tensor, Tensor]:
        """Map deep features [N, F] to landmarks [N, 8, 2] in [0, 1] and visibility logits [N, 8, 3]."""
        x = self.fc7_pose(self.fc6_pose(deep))
        return self.landmarks(x).unflatten(1, (POINTS, 2)), self.visibility(x).unflatten(1, (POINTS, VISIBILITIES))


class HeatMapPose(nn.Module):
    """Pose head with one stride-8 heat map per landmark.

    The landmark is the heat map's centre of mass (soft-argmax; Sun et al., ECCV 2018).
    """

    def __init__(self, channels: int, deep_channels: int, width: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(channels, width, 1)
        self.top_down = nn.Conv2d(deep_channels, width, 1)
        self.smooth = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.heat_maps = nn.Conv2d(width, POINTS, 1)
        self.visibility = nn.Linear(deep_channels + POINTS, POINTS * VISIBILITIES)
        _open_gates(self.visibility)

    def forward(self, features: Tensor, deep: Tensor, deep_map: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the landmarks and their visibility.

        Args:
            features: [N, C, H, W], the backbone's stride-8 stage.
            deep: [N, F], spatial means of the backbone's last stage.
            deep_map: [N, F, H / 4, W / 4], the backbone's last stage.

        Returns:
            Landmarks [N, 8, 2] in [0, 1] and visibility logits [N, 8, 3].
        """
        top_down = F.interpolate(self.top_down(deep_map), scale_factor=4.0, mode="nearest")
        heat_maps = self.heat_maps(self.smooth(self.lateral(features) + top_down)).float()
        mass = heat_maps.flatten(2).softmax(2).unflatten(2, heat_maps.shape[2:])
        x = (mass.sum(2) * _centres(heat_maps.shape[3], mass)).sum(2)
        y = (mass.sum(3) * _centres(heat_maps.shape[2], mass)).sum(2)
        peaks = heat_maps.amax((2, 3)) - heat_maps.mean((2, 3))  # a flat heat map has no clear landmark
        visibility = self.visibility(torch.cat([deep, peaks.to(deep.dtype)], 1))
        return torch.stack([x, y], 2), visibility.unflatten(1, (POINTS, VISIBILITIES))


def _centres(cells: int, like: Tensor) -> Tensor:
    """Return the centres of `cells` equal cells that divide [0, 1]."""
    return (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5) / cells


def _convolutions(before: int, channels: list[int]) -> list[nn.Module]:
    inputs = [before, *channels[:-1]]
    convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in zip(inputs, channels, strict=True)]
    for convolution in convolutions:  # with torch's default initialisation the signal vanishes over 13 layers
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]


def _dense(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout))


class _Head(nn.Linear):
    """A linear layer that may have no outputs, for sets without attributes; torch would warn when initialising it."""

    def reset_parameters(self) -> None:
        if self.out_features:
            super().reset_parameters()


def _open_gates(visibility: nn.Linear) -> None:
    """Initialise every landmark as likely visible: with closed gates the local branch would get no gradient."""
    nn.init.zeros_(visibility.weight)
    with torch.no_grad():
        visibility.bias.copy_(torch.tensor([2.0, 0.0, 0.0]).repeat(POINTS))
