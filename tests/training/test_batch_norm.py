import copy

import pytest
import torch
from torch import nn

from fashion_infer.training.batch_norm import fit_batch_norm
from fashion_infer.training.model import Architecture, FashionNet


def network() -> FashionNet:
    torch.manual_seed(0)
    net = FashionNet(Architecture("mobilenetv4_conv_small", 64, 3, 5, embedding_dim=8, width=0.1)).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training leaves it: of other pictures than those to come
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return net


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (12, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_function_stays_and_the_statistics_are_those_of_the_pictures() -> None:
    net, images = network(), pictures()
    fitted = copy.deepcopy(net)
    fit_batch_norm(fitted, images.split(4))
    with torch.no_grad():
        before, after = net(images), fitted(images)
        for name in before:
            torch.testing.assert_close(after[name], before[name], atol=1e-4, rtol=1e-3)
        fitted.backbone.train()  # normalised by the batch, which is all the pictures at once
        by_batch = fitted(images)
    torch.testing.assert_close(by_batch["landmarks"], before["landmarks"], atol=2e-3, rtol=0)
    torch.testing.assert_close(by_batch["category"], before["category"], atol=2e-2, rtol=0)


def test_no_picture_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        fit_batch_norm(network(), [])
