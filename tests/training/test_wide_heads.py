"""Wide heads start as the network's own: the same logits for the names that it has, and 0 for others."""

import numpy as np
import pytest
import torch

from fashion_infer.data.columns import build
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import ModelError
from fashion_infer.training.checkpoint import take_over
from fashion_infer.training.linear_head import Head
from fashion_infer.training.wide_heads import head_of, renumbered, same_names, set_head, with_heads_for
from tests.training.own import small_network


def labelled(*categories: str, attributes: tuple[str, ...] = ()) -> FashionData:
    from pathlib import Path

    count = len(categories)
    return build(
        Path(),
        [f"{i}.jpg" for i in range(count)],
        splits=np.zeros(count, np.int64),
        boxes=None,
        landmarks=None,
        categories=np.arange(count),
        category_names=categories,
        attributes=np.ones((count, len(attributes)), np.int8),
        attribute_names=attributes,
        attribute_groups=("fit",) * len(attributes),
    )


def outputs(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        result: dict[str, torch.Tensor] = network(images)
    return result


def test_names_that_the_network_has_start_from_its_rows_whatever_their_case() -> None:
    network, spec = small_network()
    wide, own, same = with_heads_for(network, spec, labelled("DRESS", "Hat", "Tee"), add=False)
    before, after = outputs(network), outputs(wide)
    assert own.categories == ("DRESS", "Hat", "Tee")
    assert same == ("DRESS", "Tee")
    torch.testing.assert_close(after["category"][:, [2, 0]], before["category"])
    assert not after["category"][:, 1].any()
    for name in ("attributes", "landmarks", "visibility", "embedding"):
        torch.testing.assert_close(after[name], before[name])
    assert wide.arch.heads == "all"
    assert network.arch.heads == "fused"


def test_added_classes_come_behind_the_networks_own() -> None:
    network, spec = small_network()
    wide, own, same = with_heads_for(network, spec, labelled("Hat", "dress"), add=True)
    assert own.categories == ("Tee", "Dress", "Hat")
    assert same == ("dress",)
    torch.testing.assert_close(outputs(wide)["category"][:, :2], outputs(network)["category"])
    again, own, _ = with_heads_for(wide, own, labelled("bag"), add=True)  # heads that are wide already
    assert own.categories == ("Tee", "Dress", "Hat", "bag")
    torch.testing.assert_close(outputs(again)["category"][:, :3], outputs(wide)["category"])


def test_new_attributes_come_behind_the_networks_own() -> None:
    network, spec = small_network()
    wide, own, _ = with_heads_for(network, spec, labelled("Hat", "Tee", attributes=("loose", "striped")), add=False)
    assert own.attributes == ("floral", "striped", "cotton", "loose")
    assert own.attribute_groups == ("texture", "texture", "fabric", "fit")
    after = outputs(wide)["attributes"]
    torch.testing.assert_close(after[:, :3], outputs(network)["attributes"])
    assert not after[:, 3].any()


def test_the_papers_network_has_wide_heads_too() -> None:
    from fashion_infer.model_spec import ModelSpec
    from fashion_infer.training.model import Architecture, FashionNet

    spec = ModelSpec("vgg16", 32, ("a", "b"), (), (), 8, True, "")
    network = FashionNet(Architecture("vgg16", 32, 2, 0, embedding_dim=8, width=0.05)).eval()
    wide, _, _ = with_heads_for(network, spec, labelled("b", "c"), add=False)
    assert sum(wide.blocks) == wide.category.in_features
    torch.testing.assert_close(outputs(wide)["category"][:, 0], outputs(network)["category"][:, 1])


def test_wide_heads_do_not_become_narrow() -> None:
    network, spec = small_network()
    wide, own, _ = with_heads_for(network, spec, labelled("Hat", "Tee"), add=False)
    with pytest.raises(ModelError, match="cannot become heads that read the fused ones"):
        take_over(network, spec, wide, own)


def test_a_head_comes_out_as_it_went_in() -> None:
    network, _ = small_network()
    head = Head(np.arange(2.0 * network.category.in_features).reshape(2, -1), np.array([0.5, 1.5]))
    set_head(network, "category", head)
    again = head_of(network, "category")
    assert np.array_equal(again.weight, head.weight)
    assert np.array_equal(again.bias, head.bias)
    again.bias[:] = 0
    assert network.category.bias.any()  # a copy


def test_the_same_letters_go_before_the_same_word() -> None:
    assert same_names(("dress", "Dress", "Hat"), ("Dress", "dress")) == {"dress": "dress", "Dress": "Dress"}
    data = renumbered(labelled("Hat", "DRESS"), ("Tee", "Dress", "hat"))
    assert data.categories.tolist() == [2, 1]
    assert data.category_names == ("Tee", "Dress", "hat")
