"""LandmarkPool as a torch operator; `fashion_infer.landmark_pool` is its definition."""

from typing import Any

import torch
from torch import Tensor

from fashion_infer.landmark_pool import check_shapes


@torch.library.custom_op("fashion_infer::landmark_pool", mutates_args=())
def landmark_pool(features: Tensor, landmarks: Tensor, gate: Tensor, pooled_size: int = 4, bin_size: int = 2) -> Tensor:
    """Max-pool a window around each landmark and multiply it by the landmark's gate.

    `fashion_infer.landmark_pool.landmark_pool` defines the function. The gradient of each bin flows to one cell with
    the bin's maximum, as in Fast R-CNN's RoI pooling, and to the gate if it is open. Landmarks get no gradient.

    Args:
        features: [N, C, H, W], any float type.
        landmarks: [N, P, 2] as (x, y) in [0, 1], any float type.
        gate: [N, P] in [0, 1], any float type.
        pooled_size: k, bins along each side of the window.
        bin_size: s, cells along each side of a bin.

    Returns:
        [N, P, C, k, k] of the type of `features`.

    Raises:
        ValueError: The shapes do not fit together, or a size is below 1.
    """
    check_shapes(tuple(features.shape), tuple(landmarks.shape), tuple(gate.shape), pooled_size, bin_size)
    index, scale = _index(features, landmarks, gate, pooled_size, bin_size)
    pooled = _gather(features, index).amax(3) * scale[..., None, None]
    return _to_output(pooled, pooled_size)


@landmark_pool.register_fake
def _(features: Tensor, landmarks: Tensor, gate: Tensor, pooled_size: int = 4, bin_size: int = 2) -> Tensor:
    return features.new_empty(*landmarks.shape[:2], features.shape[1], pooled_size, pooled_size)


def _index(features: Tensor, landmarks: Tensor, gate: Tensor, k: int, s: int) -> tuple[Tensor, Tensor]:
    """Return the cell indices of each bin and the gates.

    The indices are int64 [N, P, k*k, s*s]; the index H*W stands for a cell that counts as 0. The gates are [N, P], 0
    where the gate is closed or the landmark is NaN.
    """
    height, width = features.shape[2:]
    is_open = (gate > 0) & ~landmarks.isnan().any(-1)
    without_nan = landmarks.float().nan_to_num(0.0, float("inf"), float("-inf"))
    # Width and height stay Python numbers: copying a tensor of them to the GPU could not be captured in a CUDA graph.
    cell_x = (without_nan[..., 0] * width).floor().clamp(0, width - 1).long()
    cell_y = (without_nan[..., 1] * height).floor().clamp(0, height - 1).long()
    offset = torch.arange(k * s, device=features.device) - k * s // 2
    x = cell_x[..., None, None, None, None] + offset.view(1, k, 1, s)
    y = cell_y[..., None, None, None, None] + offset.view(k, 1, s, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & is_open[..., None, None, None, None]
    index = torch.where(inside, y * width + x, height * width)
    return index.flatten(4).flatten(2, 3), torch.where(is_open, gate, 0).to(features.dtype)


def _gather(features: Tensor, index: Tensor) -> Tensor:
    """Return the values of each bin's cells, [N, P, k*k, s*s, C]; the index H*W reads a row of zeros."""
    rows = torch.nn.functional.pad(features.flatten(2).transpose(1, 2), (0, 0, 0, 1))
    return rows[torch.arange(len(rows), device=rows.device)[:, None, None, None], index]


def _to_output(pooled: Tensor, k: int) -> Tensor:
    # Contiguous, since that is the layout that the fake implementation above promises.
    return pooled.transpose(2, 3).reshape(*pooled.shape[:2], pooled.shape[3], k, k).contiguous()


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.sizes = inputs[3:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
    features, landmarks, gate = ctx.saved_tensors
    index, scale = _index(features, landmarks, gate, *ctx.sizes)
    highest, arg = _gather(features, index).max(3)  # [N, P, k*k, C]
    grad = grad.flatten(3).transpose(2, 3)
    batch, channels, height, width = features.shape
    rows = features.new_zeros(batch, height * width + 1, channels)
    cells = index.gather(3, arg).flatten(1, 2)
    rows.scatter_add_(1, cells, (grad * scale[..., None, None]).flatten(1, 2))
    grad_features = rows[:, :-1].transpose(1, 2).reshape(features.shape)
    grad_gate = (grad * highest).sum((2, 3)) * (scale > 0)
    return grad_features, None, grad_gate.to(gate.dtype), None, None


landmark_pool.register_autograd(_backward, setup_context=_save)
