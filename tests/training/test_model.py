import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fashion_infer import landmark_pool as definition
from fashion_infer.errors import ModelNotFoundError, UsageError
from fashion_infer.model_spec import OUTPUT_NAMES
from fashion_infer.training.model import Architecture, Deployed, FashionNet, HeatMapPose, TimmBackbone

BACKBONES = {
    "vgg16": 0.04,
    "tf_efficientnet_lite0": 0.2,
    "mobilenetv4_conv_small": 0.2,
    "resnet50": 0.2,
    "convnext_atto": 0.2,
}


def network(backbone: str = "vgg16", size: int = 64, **changed: Any) -> FashionNet:
    torch.manual_seed(0)
    width = changed.pop("width", BACKBONES.get(backbone, 0.2))
    return FashionNet(Architecture(backbone, size, 7, 5, embedding_dim=16, width=width, **changed)).eval()


def images(count: int = 2, size: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_the_five_outputs(backbone: str) -> None:
    outputs = network(backbone)(images())
    shapes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    assert shapes == {
        "category": (2, 7), "attributes": (2, 5), "landmarks": (2, 8, 2), "visibility": (2, 8, 3), "embedding": (2, 16),
    }  # fmt: skip
    assert torch.allclose(outputs["embedding"].norm(dim=1), torch.ones(2))
    assert all(tensor.isfinite().all() for tensor in outputs.values())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_pooling_reads_the_stride_8_map(backbone: str) -> None:
    net = network(backbone)
    maps = net.backbone(torch.zeros(1, 3, 64, 64))
    assert maps.stages[0].shape == (1, net.backbone.channels[0], 8, 8)
    assert maps.pose.shape == maps.whole.shape == (1, net.backbone.channels[1], 2, 2)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gates_start_open(backbone: str) -> None:
    """Behind closed gates the local branch would get no gradient and never open them."""
    visible = network(backbone)(images())["visibility"].softmax(2)[..., 0]
    assert (visible > 0.5).all()


def test_the_papers_network() -> None:
    with torch.device("meta"):
        net = FashionNet(Architecture("vgg16", 224, 50, 1000))
    maps = net.backbone(torch.empty(1, 3, 224, 224, device="meta"))
    assert maps.stages[0].shape == (1, 512, 28, 28)
    assert maps.pose.shape == (1, 512, 7, 7)
    parameters = sum(p.numel() for p in net.parameters())
    assert 243e6 < parameters < 246e6
    assert parameters * 4 < 2**31  # one ONNX file holds it
    widths = {name: getattr(net, name)[0].weight.shape for name in ("fc6_global", "fc6_local", "fc7_fusion")}
    assert widths == {
        "fc6_global": (4096, 512 * 7 * 7), "fc6_local": (1024, 8 * 512 * 4 * 4), "fc7_fusion": (4096, 4096 + 1024),
    }  # fmt: skip


def pooled_by(net: FashionNet, batch: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The outputs, and what the local branch was given."""
    seen: list[Tensor] = []
    hook = net.fc6_local.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    outputs = net(batch)
    hook.remove()
    return outputs, seen[0]


@pytest.mark.parametrize("backbone", ["vgg16", "mobilenetv4_conv_small"])
def test_local_features_are_pooled_at_the_predicted_landmarks_and_gated(backbone: str) -> None:
    net = network(backbone)
    with torch.no_grad():  # every third landmark is not visible
        net.pose.visibility.bias.view(8, 3)[::3] = torch.tensor([0.0, 0.0, 3.0])
        outputs, local = pooled_by(net, images())
        x = ((images().float() - net.mean) / net.std).permute(0, 3, 1, 2)
        features = net.backbone(x).stages[0]
    gate = np.ones((2, 8), np.float32)
    gate[:, ::3] = 0
    expected = definition.landmark_pool(features.numpy(), outputs["landmarks"].numpy(), gate)
    assert expected.any()
    np.testing.assert_array_equal(local.numpy(), expected.reshape(2, -1))


def test_a_landmark_must_be_likelier_visible_than_not() -> None:
    net = network()
    with torch.no_grad():
        net.pose.visibility.bias.view(8, 3)[:] = torch.tensor([math.log(0.49), math.log(0.26), math.log(0.25)])
    assert not pooled_by(net, images())[1].any()
    with torch.no_grad():
        net.pose.visibility.bias.view(8, 3)[:] = torch.tensor([math.log(0.51), math.log(0.25), math.log(0.24)])
    assert pooled_by(net, images())[1].any()


def test_categories_do_not_move_the_landmarks() -> None:
    net = network().train()
    net(images())["category"].sum().backward()
    assert net.pose.landmarks.weight.grad is None
    assert net.fc6_local[0].weight.grad.any()


def test_soft_argmax_finds_the_middle_of_a_peak() -> None:
    pose = HeatMapPose(8, 4, 8)
    with torch.no_grad():
        for layer in (pose.lateral, pose.top_down, pose.smooth[1], pose.heat_maps):
            layer.weight.zero_()
            layer.bias.zero_()
        pose.lateral.weight[torch.arange(8), torch.arange(8)] = 1
        pose.smooth[1].weight[torch.arange(8), torch.arange(8), 1, 1] = 1
        pose.heat_maps.weight[torch.arange(8), torch.arange(8)] = 1
    features = torch.zeros(1, 8, 4, 8)
    features[0, :7, 1, 6] = 100
    landmarks, _ = pose(features, torch.zeros(1, 4), torch.zeros(1, 4, 1, 2))
    assert torch.allclose(landmarks[0, :7], torch.tensor([6.5 / 8, 1.5 / 4]))
    assert torch.allclose(landmarks[0, 7], torch.tensor([0.5, 0.5]))  # a flat map


def test_pixels_are_normalised_inside() -> None:
    net = network()
    grey = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
    seen: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(grey)
    expected = [(128 / 255 - mean) / std for mean, std in zip(net.backbone.mean, net.backbone.std, strict=True)]
    assert torch.allclose(seen[0][0, :, 0, 0], torch.tensor(expected), atol=1e-6)


def test_lite0_keeps_the_normalisation_its_weights_expect() -> None:
    assert network("tf_efficientnet_lite0").backbone.mean == (0.5, 0.5, 0.5)


def test_deployed_gives_probabilities_in_the_order_of_the_file() -> None:
    net = network()
    logits = net(images())
    outputs = dict(zip(OUTPUT_NAMES, Deployed(net, temperature=2.0)(images()), strict=True))
    assert torch.allclose(outputs["category"], (logits["category"] / 2).softmax(1))
    assert torch.allclose(outputs["attributes"], logits["attributes"].sigmoid())
    assert torch.allclose(outputs["visibility"].sum(2), torch.ones(2, 8))
    assert torch.equal(outputs["landmarks"], logits["landmarks"])


def test_an_unknown_backbone_lists_like_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'resnet_51' \(.*resnet.*\); the paper's is vgg16"):
        network("resnet_51")


def test_a_backbone_without_a_stride_8_stage_is_refused() -> None:
    with pytest.raises(UsageError, match="vit_tiny_patch16_224 has no stage of stride 8"):
        network("vit_tiny_patch16_224")


def test_settings_are_plain_numbers_that_can_be_written_as_json() -> None:
    architecture = Architecture("vgg16", np.int64(64), np.int32(5), np.uint8(3), width=np.float32(0.5))  # type: ignore[arg-type]
    assert json.loads(json.dumps(dataclasses.asdict(architecture)))["image_size"] == 64


@pytest.mark.parametrize(("size", "reason"), [(0, "at least 32"), (31, "at least 32"), (100, "multiple of 32")])
def test_sizes_that_the_strides_do_not_divide_are_refused(size: int, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{reason}, got {size}"):
        Architecture("vgg16", size, 1, 1)


def test_an_architecture_is_plain_values() -> None:
    arch = Architecture("vgg16", 224, 50, 1000)
    assert Architecture(**json.loads(json.dumps(vars(arch)))) == arch


# -------------------------------------------------------------------------------------------------- parts


def test_the_layers_before_stride_8_are_the_early_ones() -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0").eval()
    early = backbone.early_layers()
    reached: dict[str, int] = {}
    for layer in early:
        layer.register_forward_hook(lambda _, __, output: reached.update(side=output.shape[-1]))
    backbone(torch.zeros(1, 3, 64, 64))
    assert reached["side"] == 16, "the last of them is at stride 4"
    late = {id(p) for p in backbone.parameters()} - {id(p) for layer in early for p in layer.parameters()}
    assert late
    assert backbone(torch.zeros(1, 3, 64, 64)).stages[0].shape[-1] == 8


def test_pooling_where_it_is_told_to() -> None:
    torch.manual_seed(0)
    arch = Architecture("tf_efficientnet_lite0", 64, num_categories=5, num_attributes=7, width=0.2)
    model = FashionNet(arch).eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    x = (images.float() - model.mean) / model.std
    with torch.inference_mode():
        expected = model(images)
        maps = model.backbone(x.permute(0, 3, 1, 2))
        gate = (expected["visibility"].softmax(2)[..., 0] > 0.5).float()
        same = model.heads(maps, pool_at=(expected["landmarks"], gate))
        other = model.heads(maps, pool_at=(torch.full((2, 8, 2), 0.1), torch.ones(2, 8)))
    torch.testing.assert_close(same, expected)
    assert torch.equal(other["landmarks"], expected["landmarks"])
    assert not torch.allclose(other["category"], expected["category"])


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "mobilenetv4_conv_small", "resnet50", "convnext_atto"])
def test_an_embedding_of_stages_is_linear_in_their_clipped_standardised_means(backbone: str) -> None:
    net = network(backbone, embedding="stages")
    fused: list[Tensor] = []
    net.fc7_fusion.register_forward_hook(lambda _, __, output: fused.append(output))
    with torch.no_grad():
        net.embedding.mean.normal_()
        net.embedding.scale.fill_(20)  # so that some are clipped
        embedding = net(images())["embedding"].numpy()
        stages = net.backbone(((images().float() - net.mean) / net.std).permute(0, 3, 1, 2)).stages
    expected_sides = [8, 4, 4, 2, 2] if backbone == "tf_efficientnet_lite0" else [8, 4, 2]  # two stages of some strides
    assert [stage.shape[2] for stage in stages] == expected_sides
    means = np.concatenate([*(stage.mean((2, 3)).numpy() for stage in stages), fused[0].detach().numpy()], 1)
    standardised = (means - net.embedding.mean.numpy()) * net.embedding.scale.numpy()
    assert (np.abs(standardised) > 6).any() and (np.abs(standardised) < 6).any()
    weight, bias = (p.detach().numpy() for p in (net.embedding.linear.weight, net.embedding.linear.bias))
    expected = np.clip(standardised, -6, 6) @ weight.T + bias
    np.testing.assert_allclose(embedding, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_the_papers_network_has_no_embedding_of_stages() -> None:
    with pytest.raises(UsageError, match="for timm's backbones"):
        Architecture("vgg16", 64, 7, 5, embedding="stages")
    with pytest.raises(UsageError, match="embedding must be one of fused, stages, got 'x'"):
        Architecture("resnet50", 64, 7, 5, embedding="x")


@pytest.mark.parametrize("backbone", ["vgg16", "tf_efficientnet_lite0"])
def test_heads_of_all_features_are_linear_in_stages_fused_features_and_embedding(backbone: str) -> None:
    net = network(backbone, heads="all")
    fused: list[Tensor] = []
    net.fc7_fusion.register_forward_hook(lambda *call: fused.append(call[2]))
    with torch.inference_mode():
        outputs = net(images())
        stages = net.backbone(((images().float() - net.mean) / net.std).permute(0, 3, 1, 2)).stages
        features = torch.cat([*(stage.mean((2, 3)) for stage in stages), fused[0], outputs["embedding"]], 1)
        assert [part.shape[1] for part in features.split(list(net.blocks), 1)] == list(net.blocks)
        torch.testing.assert_close(outputs["category"], net.category(features))
        torch.testing.assert_close(outputs["attributes"], net.attributes(features))
    assert net.blocks[-1] == 16


def test_heads_read_the_fused_features_unless_asked() -> None:
    assert network().blocks == (network().category.in_features,)
    with pytest.raises(UsageError, match="heads must be one of fused, all, got 'x'"):
        Architecture("vgg16", 64, 7, 5, heads="x")
