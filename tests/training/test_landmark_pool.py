"""What only the torch operator has: gradients. Its values are tested with every other implementation's."""

import pytest
import torch
from torch import Tensor

from fashion_infer.training.landmark_pool import landmark_pool


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    features = torch.randperm(2 * 3 * 5 * 6).double().view(2, 3, 5, 6)  # all different: no ties at a maximum
    landmarks, gate = torch.rand(2, 4, 2) * 1.4 - 0.2, torch.rand(2, 4).double()
    gate[0, 0] = 0
    landmarks[1, 1] = torch.nan
    return features.requires_grad_(), landmarks, gate.requires_grad_()


@pytest.mark.parametrize("sizes", [(4, 2), (3, 1), (1, 3)])
def test_gradcheck(sizes: tuple[int, int]) -> None:
    features, landmarks, gate = random_case(0)
    with torch.no_grad():  # at a gate of exactly 0 the two one-sided derivatives differ
        gate[0, 0] = 0.3
    assert torch.autograd.gradcheck(lambda x, v: landmark_pool(x, landmarks, v, *sizes), (features, gate))


def test_the_gradient_goes_to_the_greatest_cell_times_the_gate() -> None:
    features = torch.tensor([[[[1.0, 4.0], [3.0, 2.0]]]], requires_grad=True)
    gate = torch.tensor([[0.5]], requires_grad=True)
    landmark_pool(features, torch.tensor([[[0.5, 0.5]]]), gate, 1, 2).backward()
    assert features.grad is not None
    assert gate.grad is not None
    assert features.grad.tolist() == [[[[0, 0.5], [0, 0]]]]
    assert gate.grad.item() == 4


def test_a_tie_gives_the_gradient_to_one_cell_only() -> None:
    features = torch.ones(1, 1, 2, 2, requires_grad=True)
    landmark_pool(features, torch.tensor([[[0.5, 0.5]]]), torch.ones(1, 1), 1, 2).backward()
    assert features.grad is not None
    assert features.grad.sum() == 1
    assert features.grad.max() == 1


def test_windows_that_overlap_add_their_gradients() -> None:
    features = torch.ones(1, 1, 1, 1, requires_grad=True)
    landmark_pool(features, torch.full((1, 3, 2), 0.5), torch.ones(1, 3), 1, 1).sum().backward()
    assert features.grad is not None
    assert features.grad.item() == 3


def test_a_closed_gate_and_a_nan_landmark_pass_no_gradient() -> None:
    features = torch.full((1, 1, 4, 4), torch.inf, requires_grad=True)
    landmarks, gate = torch.tensor([[[0.5, 0.5], [torch.nan, 0.5]]]), torch.tensor([[0.0, 1.0]], requires_grad=True)
    landmark_pool(features, landmarks, gate, 2, 2).sum().backward()
    assert features.grad is not None
    assert gate.grad is not None
    assert not features.grad.any()
    assert gate.grad.tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_autocast_types_keep_their_type(kind: torch.dtype) -> None:
    features, landmarks, gate = random_case(1)
    half = features.detach().to(kind).requires_grad_()
    pooled = landmark_pool(half, landmarks, gate.detach())
    assert pooled.dtype == kind
    pooled.sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == kind


def test_the_operator_keeps_what_it_promises_to_the_exporter() -> None:
    features, landmarks, gate = random_case(2)
    arguments = features.float().detach().requires_grad_(), landmarks, gate.float().detach()
    kinds = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(landmark_pool, arguments, test_utils=kinds)
