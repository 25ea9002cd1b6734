"""Tests of the changed views, with embeddings that are computed from the pixels."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fashion_infer.data.deepfashion import read_category
from fashion_infer.errors import DataError, ImageError
from fashion_infer.evaluation.views import SMALL_SIDE, alike_view, judge_views, judge_views_folder, unlike_view
from fashion_infer.model_spec import ModelSpec
from fashion_infer.predictor import Predictor
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.synthetic.rendering import render

SIZE = 16
SPEC = ModelSpec("vgg16", SIZE, ("a",), (), (), 3 * SIZE * SIZE, True, "")
NAMES = tuple(f"{index:02}.png" for index in range(12))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures, each in a colour of its own with a darker square."""
    folder = tmp_path_factory.mktemp("views")
    colours = np.random.default_rng(1).integers(60, 250, (len(NAMES), 3))
    for name, colour in zip(NAMES, colours, strict=True):
        picture = np.full((60, 80, 3), colour, np.uint8)
        picture[20:40, 30:50] //= 2
        cv2.imwrite(str(folder / name), picture)
    return folder


def pixels_as_embedding(batch: np.ndarray) -> dict[str, np.ndarray]:
    """The pixels minus their mean, scaled to length 1."""
    flat = batch.reshape(len(batch), -1).astype(np.float32) / 255
    flat -= flat.mean(1, keepdims=True)
    return {"embedding": flat / np.linalg.norm(flat, axis=1, keepdims=True)}


def blind(batch: np.ndarray) -> dict[str, np.ndarray]:
    return {"embedding": np.ones((len(batch), 4), np.float32)}


def test_a_network_that_sees_finds_and_one_that_is_blind_does_not(folder: Path) -> None:
    seeing = judge_views(pixels_as_embedding, SPEC, folder, NAMES, batch_size=5)
    assert (seeing.photos, seeing.queries, seeing.skipped) == (12, 12, {})
    assert seeing.alike[1] > 0.5
    assert seeing.alike[10] >= seeing.alike[1]
    assert judge_views(blind, SPEC, folder, NAMES).alike == {1: 0, 10: 0}


def test_the_numbers_are_those_of_a_plain_reckoning(folder: Path) -> None:
    seen: list[np.ndarray] = []

    def keep(batch: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(batch)
        return pixels_as_embedding(batch)

    result = judge_views(keep, SPEC, folder, NAMES, labels=np.arange(12) % 3, batch_size=12)
    original, alike, unlike = (pixels_as_embedding(batch)["embedding"].astype(np.float64) for batch in seen)
    for share, views in ((result.alike, alike), (result.unlike, unlike)):
        nearest = np.linalg.norm(views[:, None] - original, axis=2).argsort(axis=1)
        for k in (1, 10):
            assert share[k] == np.mean([row in nearest[row, :k] for row in range(12)])
    distances = np.linalg.norm(original[:, None] - original, axis=2)
    np.fill_diagonal(distances, np.inf)
    neighbours = distances.argsort(axis=1)[:, :10]
    assert result.neighbours == pytest.approx(np.mean(neighbours % 3 == np.arange(12)[:, None] % 3))


def test_some_photos_are_looked_up_among_all(folder: Path) -> None:
    queries = np.arange(12) < 3
    sources = np.repeat([0, 1], 6)
    result = judge_views(
        pixels_as_embedding, SPEC, folder, NAMES, queries=queries, labels=np.zeros(12, int), sources=sources
    )
    assert (result.photos, result.queries) == (12, 3)
    assert result.neighbours == 1
    report = json.loads(json.dumps(result.to_dict()))
    names = ["views_recall1", "views_recall10", "unlike_views_recall1", "unlike_views_recall10"]
    assert list(report) == ["photos", "queries", *names, "neighbours_same_category", "skipped"]
    assert [name for name, _ in judge_views(blind, SPEC, folder, NAMES).rows()] == names


def test_a_copy_is_the_same_photo(folder: Path, tmp_path: Path) -> None:
    for copy in ("a.png", "b.png"):
        (tmp_path / copy).write_bytes((folder / NAMES[0]).read_bytes())
    (tmp_path / "c.png").write_bytes((folder / NAMES[1]).read_bytes())
    result = judge_views(pixels_as_embedding, SPEC, tmp_path, ("a.png", "b.png", "c.png"))
    assert result.alike[1] == 1


def test_a_bad_photo_spoils_no_other(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes((folder / NAMES[0]).read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no picture")
    result = judge_views(pixels_as_embedding, SPEC, tmp_path, ("bad.png", "none.png", "good.png"))
    assert list(result.skipped) == ["bad.png", "none.png"]
    assert (result.photos, result.queries) == (1, 1)
    with pytest.raises(DataError, match=r"no photo to look up can be read: .*not an image"):
        judge_views(pixels_as_embedding, SPEC, tmp_path, ("bad.png",))
    with pytest.raises(DataError, match="no photo to look up can be read: there is none"):
        judge_views(pixels_as_embedding, SPEC, tmp_path, ())
    with pytest.raises(DataError, match="no photo to look up can be read"):
        judge_views(pixels_as_embedding, SPEC, tmp_path, ("good.png",), queries=np.array([False]))


def test_views_depend_on_the_seed_and_the_name_alone(folder: Path) -> None:
    def views(names: tuple[str, ...], seed: int) -> list[np.ndarray]:
        seen: list[np.ndarray] = []

        def keep(batch: np.ndarray) -> dict[str, np.ndarray]:
            seen.append(batch)
            return pixels_as_embedding(batch)

        judge_views(keep, SPEC, folder, names, seed=seed)
        return seen[1:]

    alike, unlike = views(NAMES, 0)
    other_alike, other_unlike = views(NAMES[::-1], 0)
    np.testing.assert_array_equal(alike, other_alike[::-1])
    np.testing.assert_array_equal(unlike, other_unlike[::-1])
    assert (views(NAMES, 1)[0] != alike).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (300, 200)])
def test_views_of_any_shape_are_pictures(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for seed in range(20):
        pixels = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
        before = pixels.copy()
        for make in (alike_view, unlike_view):
            view = make(pixels, np.random.default_rng(seed))
            assert view.dtype == np.uint8
            assert view.ndim == 3
            assert 0 < view.size <= pixels.size + 3
            np.testing.assert_array_equal(pixels, before)


def test_views_change_what_they_say_they_change() -> None:
    photo = np.ascontiguousarray(render(5, 0, size=400).image)
    height, width = photo.shape[:2]
    for seed in range(10):
        alike = alike_view(photo, np.random.default_rng(seed))
        assert 0.74 < alike.shape[0] / height < 0.96
        assert 0.74 < alike.shape[1] / width < 0.96
        unlike = unlike_view(photo, np.random.default_rng(seed))
        assert max(unlike.shape) == SMALL_SIDE
    plain = np.full((200, 200, 3), 128, np.uint8)
    for seed in range(10):
        view = unlike_view(plain, np.random.default_rng(seed)).reshape(-1, 3)
        colours, counts = np.unique(view, axis=0, return_counts=True)
        assert 0.7 < counts.max() / len(view) < 0.85, "a fifth is covered"
        assert abs(int(colours[counts.argmax()][0]) - 128) > 20, "gamma moves grey"


def test_an_exported_model_is_judged(folder: Path, onnx_model: Path) -> None:
    with Predictor(onnx_model) as predictor:
        result = judge_views(predictor.run, predictor.spec, folder, NAMES, batch_size=4)
    assert result.queries == 12
    assert 0 <= result.alike[1] <= result.alike[10] <= 1


def test_the_benchmarks_of_a_folder(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", images=24, seed=5, size=64, jobs=1, progress=False)
    judged = judge_views_folder(pixels_as_embedding, SPEC, tmp_path / "set")
    counts = {name: (result.queries, result.photos) for name, result in judged.judgements.items()}
    assert counts == {"category": (4, 24), "consumer_to_shop": (4, 24), "in_shop": (2, 12), "landmarks": (4, 24)}
    assert 0 <= judged.judgements["category"].neighbours <= 1
    assert 0 <= judged.judgements["in_shop"].neighbours <= 1, "by the folders of the items"
    assert np.isnan(judged.judgements["landmarks"].neighbours)
    assert judged.failed == {}
    other = judge_views_folder(pixels_as_embedding, SPEC, tmp_path / "set", benchmark="category", split="train")
    assert [judged.queries for judged in other.judgements.values()] == [16]
    with pytest.raises(DataError, match="no images in split 'dev'"):
        judge_views_folder(pixels_as_embedding, SPEC, tmp_path / "set", benchmark="category", split="dev")


def test_a_folder_of_any_photos_and_who_sent_them(folder: Path, tmp_path: Path) -> None:
    result = judge_views_folder(pixels_as_embedding, SPEC, folder).judgements["photos"]
    assert (result.photos, result.queries) == (12, 12)
    assert result.alike == judge_views(pixels_as_embedding, SPEC, folder, NAMES).alike
    write_dataset(tmp_path / "set", images=8, seed=5, size=64, jobs=1, progress=False)
    data = read_category(tmp_path / "set/category_attribute")
    senders = tmp_path / "senders.csv"
    settings = {"benchmark": "category", "split": "train", "senders": senders}
    agreement = []
    for sender in ("somebody", ""):
        senders.write_text("\n".join(["image,sender", *(f"{name},{sender}" for name in data.images)]))
        judged = judge_views_folder(pixels_as_embedding, SPEC, tmp_path / "set", **settings).judgements["category"]
        agreement.append(judged.neighbours)
    assert np.isnan(agreement[0]), "all are of one sender: nobody is left"
    assert agreement[1] >= 0
    senders.write_text("image,sender\nnobody.jpg,somebody\n")
    with pytest.raises(DataError, match="names none of the photos"):
        judge_views_folder(pixels_as_embedding, SPEC, tmp_path / "set", **settings)
    with pytest.raises(DataError, match="photos without splits, so there is no split 'val'"):
        judge_views_folder(pixels_as_embedding, SPEC, folder, split="val")
    with pytest.raises(DataError, match=r"photos without categories: .*senders\.csv is for neighbours"):
        judge_views_folder(pixels_as_embedding, SPEC, folder, senders=senders)
    senders.write_text("photo,sender\n")
    with pytest.raises(DataError, match="no column 'image'"):
        judge_views_folder(pixels_as_embedding, SPEC, tmp_path / "set", **settings)


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no images"):
        judge_views_folder(blind, SPEC, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        judge_views_folder(blind, SPEC, tmp_path / "none")
    with pytest.raises(DataError, match="holds no benchmark in_shop"):
        judge_views_folder(blind, SPEC, tmp_path, benchmark="in_shop")
