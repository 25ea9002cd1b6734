"""Later layers are trained on, the early ones are not, and it is kept only where it gains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.training import unfreezing
from fashion_infer.training.linear_head import Head
from fashion_infer.training.own_categories import OwnConfig, train_own
from fashion_infer.training.own_labels import Photos, load_photos
from fashion_infer.training.unfreezing import train_later_layers, unfreeze
from fashion_infer.training.wide_heads import head_of, with_heads_for
from tests.training.own import paint, small_network


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Photos]:
    data = read_class_folders(paint(tmp_path_factory.mktemp("own"), {"Hat": 8, "Shoes": 8}))
    wide, _, _ = with_heads_for(*small_network(), data, add=False)
    return wide, load_photos(wide, data, iter)


def test_the_later_layers_learn_and_the_rest_stays(taught: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    network, photos = taught
    monkeypatch.setattr(unfreezing, "RATE", 1e-3)
    student = train_later_layers(network, photos.data, seed=0)
    before, after = network.state_dict(), student.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    early = {
        f"backbone.net.{name}.weight"
        for name, module in network.backbone.net.named_modules()
        if module in network.backbone.early_layers()
    }
    assert early
    assert not changed & early
    assert "category.weight" in changed
    assert any(name.startswith("backbone.net.blocks") for name in changed)
    assert not any("running_" in name for name in changed)  # batch normalisation keeps its statistics
    assert not student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    again = train_later_layers(network, photos.data, seed=0)
    assert all(torch.equal(tensor, after[name]) for name, tensor in again.state_dict().items())


def test_what_the_photos_do_not_teach_is_held(taught: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    network, photos = taught
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def drift(weight: float) -> float:
        monkeypatch.setattr(unfreezing, "RATE", 1e-3)
        monkeypatch.setattr(unfreezing, "HOLD_WEIGHTS", {"embedding": weight, "landmarks": weight})
        student = train_later_layers(network, photos.data, seed=0)
        with torch.inference_mode():
            return float((student(images)["embedding"] - network(images)["embedding"]).norm())

    assert drift(1000.0) < 0.5 * drift(0.0)


def test_landmarks_are_learnt_where_they_are_labelled(taught: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    network, photos = taught
    monkeypatch.setattr(unfreezing, "RATE", 3e-3)
    landmarks = np.tile(np.float32([40, 8]), (len(photos.data), 8, 1))
    data = replace(photos.data, landmarks=landmarks, visibility=np.zeros((len(photos.data), 8), np.int8))
    student = train_later_layers(network, data, seed=0)
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        before, after = network(images)["landmarks"], student(images)["landmarks"]
    assert after[..., 1].mean() < before[..., 1].mean()  # they are near the upper edge


@pytest.mark.parametrize("gains", [False, True])
def test_it_is_kept_only_where_cross_validation_gains(taught: tuple, gains: bool) -> None:
    """The head alone is made perfect, or always wrong."""
    network, photos = taught
    labels = photos.labels
    before = np.eye(2)[1 - labels if gains else labels]
    start = head_of(network, "category")
    result, report, logits = unfreeze(
        network,
        photos,
        np.arange(len(labels)) % 2,
        before,
        lambda rows: Head(start.weight, start.bias),
        lambda: None,
        0,
    )
    assert report.kept is gains
    assert report.before == float(not gains)
    assert (result is network) is not gains
    assert (logits is before) is not gains


def test_a_gallery_does_not_fit_what_was_unfrozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, spec = small_network()
    folder = paint(tmp_path / "own", {"Hat": 8, "Shoes": 8})

    def always(network: torch.nn.Module, photos: Photos, *rest: object) -> tuple:
        student = train_later_layers(network, photos.data, 0)  # type: ignore[arg-type]
        return student, unfreezing.Unfrozen(0.5, 1.0, kept=True), rest[1]

    monkeypatch.setattr("fashion_infer.training.own_categories.unfreeze", always)
    report = train_own(network, spec, OwnConfig(folder, unfreeze=True), tmp_path / "own.safetensors")
    from fashion_infer.training.checkpoint import load_checkpoint

    assert not report.same_embedding
    assert load_checkpoint(tmp_path / "own.safetensors")[1].embedding_space != spec.embedding_space
