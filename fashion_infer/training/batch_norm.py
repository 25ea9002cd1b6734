"""Batch normalisation for a network whose batch normalisation layers were folded into convolutions by the export."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fashion_infer.training.model import FashionNet


@torch.no_grad()
def fit_batch_norm(network: FashionNet, batches: Iterable[Tensor]) -> None:
    """Set the mean and variance of each batch normalisation to those of its inputs, and its scale and offset to match.

    In evaluation mode the outputs of the network do not change. In training mode each layer normalises by the batch
    again, as it did when the network was first trained.

    Args:
        network: The network to change in place.
        batches: Batches of pictures like those to train on, each uint8 [N, S, S, 3] RGB.

    Raises:
        ValueError: There is no batch.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums: dict[nn.Module, Tensor] = {layer: torch.zeros(3, layer.num_features, dtype=torch.float64) for layer in layers}

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)
        count = torch.full_like(values[:, 0], values.shape[1])
        sums[layer] += torch.stack([count, values.sum(1), values.square().sum(1)])

    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    network.eval()
    for images in batches:
        network(images)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        count, total, squares = sums[layer]
        assert layer.running_mean is not None and layer.running_var is not None
        if not count.all():
            raise ValueError("batch normalisation needs at least one batch of pictures")
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        # The layer computes scale * x + offset today and must still do so with the new statistics.
        scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
        offset = layer.bias.double() - layer.running_mean.double() * scale
        layer.weight.copy_(scale * (variance + layer.eps).sqrt())
        layer.bias.copy_(offset + mean * scale)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
