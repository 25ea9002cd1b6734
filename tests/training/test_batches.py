from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fashion_infer.data.deepfashion import FashionData, read_inshop
from fashion_infer.errors import DataError
from fashion_infer.images import Picture, read_image
from fashion_infer.model_spec import LANDMARK_NAMES
from fashion_infer.training.batches import (
    MIRRORED_SLOTS,
    Loader,
    Samples,
    TrainingRows,
    cut_off,
    jitter_box,
    jitter_colours,
    loosen_box,
    mirror,
    spoil,
    turn,
)
from fashion_infer.training.losses import Batch

SIZE = 32


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(one, vars(second)[name]) for name, one in vars(first).items())


def copied(data: FashionData, folder: Path) -> FashionData:
    """The same set in a folder whose pictures may be damaged."""
    for name in data.images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((data.image_root / name).read_bytes())
    return replace(data, image_root=folder)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# -------------------------------------------------------------------------------------------------- augmenting


def test_without_a_box_the_whole_photo_is_used(training: FashionData) -> None:
    picture = read_image(training.image_root / training.images[0])
    corners = np.array([[0, 0, picture.width, picture.height]], np.float32)
    whole = replace(training.select([0]), boxes=np.full((1, 4), np.nan, np.float32))
    boxed = replace(whole, boxes=corners)
    for strong in (False, True):
        ours, theirs = (Samples(data, SIZE, seed=4, strong=strong)[0, 7] for data in (whole, boxed))
        assert ours.error is None
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.landmarks, theirs.landmarks)


def test_mirrored_slots_are_left_and_right_of_the_same_part() -> None:
    for slot, other in enumerate(MIRRORED_SLOTS):
        sides = {LANDMARK_NAMES[slot].split("_")[0], LANDMARK_NAMES[other].split("_")[0]}
        assert sides == {"left", "right"}
        assert LANDMARK_NAMES[slot].split("_")[1] == LANDMARK_NAMES[other].split("_")[1]


def test_mirror_by_hand() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    landmarks = np.array([[0.1 * slot, 0.3] for slot in range(8)])
    visibility = np.array([0, 1, 2, -1, 0, 0, 1, 2], np.int8)
    flipped, points, codes = mirror(image, landmarks, visibility)
    assert (flipped == image[:, ::-1]).all()
    assert points[0].tolist() == pytest.approx([0.9, 0.3]), "the left collar is where the right one was"
    assert points[1].tolist() == pytest.approx([1.0, 0.3])
    assert codes.tolist() == [1, 0, -1, 2, 0, 0, 2, 1]
    back = mirror(flipped, points, codes)
    assert (back[0] == image).all()
    np.testing.assert_allclose(back[1], landmarks)
    assert (back[2] == visibility).all()


def test_what_the_crop_cuts_off_is_truncated() -> None:
    landmarks = np.array([[0.5, 0.5], [-0.01, 0.5], [0.5, 1.01], [1.0, 0.0], [2, 2], [2, 2], [0.5, 0.5], [0.5, 0.5]])
    visibility = np.array([0, 0, 1, 0, -1, 2, 1, -1], np.int8)
    assert cut_off(landmarks, visibility).tolist() == [0, 2, 2, 0, -1, 2, 1, -1]


def test_boxes_move_by_a_tenth_at_most_and_stay_boxes() -> None:
    box = np.array([10.0, 20.0, 110.0, 60.0])
    moved = np.array([jitter_box(box, random(seed)) for seed in range(200)])
    assert (np.abs(moved - box) <= [10, 4, 10, 4]).all()
    assert (np.abs(moved - box).max(axis=0) > [8, 3, 8, 3]).all()
    assert (moved[:, 2:] > moved[:, :2]).all()


def test_colours_stay_colours() -> None:
    image = random().integers(0, 256, (16, 16, 3), dtype=np.uint8)
    changed = [jitter_colours(image, random(seed)) for seed in range(20)]
    assert all(one.dtype == np.uint8 and one.shape == image.shape for one in changed)
    assert 5 < np.mean([np.abs(one.astype(int) - image).mean() for one in changed]) < 40
    grey = np.full((4, 4, 3), 128, np.uint8)
    assert np.ptp(jitter_colours(grey, random()), axis=2).max() == 0, "grey has no saturation"


def test_landmarks_follow_the_picture(tmp_path: Path, training: FashionData) -> None:
    """A dot on a landmark is still there after the crop, the mirror and the jitter."""
    row = int(np.flatnonzero((training.visibility[:, 0] == 0) & (training.landmarks[:, 0] > 8).all(1))[0])
    data = copied(training.select([row]), tmp_path)
    black = np.zeros((64, 64, 3), np.uint8)
    x, y = data.landmarks[0, 0]
    cv2.circle(black, (round(float(x)), round(float(y))), 3, (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / data.images[0]), black)
    samples = Samples(data, 64, seed=0)
    slots = set()
    for draw in range(12):
        sample = samples[0, draw]
        y, x = np.argwhere(sample.image[..., 0] > 100).mean(axis=0) + 0.5
        distances = np.hypot(*(sample.landmarks - np.array([x, y]) / 64).T)
        distances[sample.visibility != 0] = np.inf
        assert distances.min() < 0.06
        slots.add(int(distances.argmin()))
    assert slots == {0, 1}, "some draws are mirrored, some are not"


def test_a_turned_picture_takes_its_landmarks_and_box_along() -> None:
    """A white rectangle, decoded at half its size, with a landmark in the middle of each edge."""
    pixels = np.zeros((200, 160, 3), np.uint8)
    pixels[60:140, 50:90] = 255
    box = np.array([100.0, 120.0, 180.0, 280.0])
    points = np.array([[140.0, 120.0], [180.0, 200.0], [140.0, 280.0], [100.0, 200.0]])
    turned = 0
    for seed in range(12):
        picture, moved, places = turn(Picture(pixels, 320, 400), box, points, random(seed))
        middle = np.argwhere(picture.pixels[..., 0] > 127).mean(axis=0)[::-1] * 2 + 1
        np.testing.assert_allclose(middle, [140, 200], atol=1.5)
        inwards = 0.9 * places + 0.1 * middle
        outwards = 1.1 * places - 0.1 * middle
        for inside, outside in zip((inwards / 2).astype(int), (outwards / 2).astype(int), strict=True):
            assert picture.pixels[inside[1], inside[0], 0] > 127
            assert picture.pixels[outside[1], outside[0], 0] < 127
        assert ((places >= moved[:2] - 1e-6) & (places <= moved[2:] + 1e-6)).all()
        turned += not np.array_equal(places, points)
    assert 2 < turned < 10, "about half of the pictures are turned"


def test_loose_boxes_hold_the_garment_but_for_an_edge() -> None:
    box, size = np.array([10.0, 20.0, 110.0, 60.0]), (200, 100)
    loose = np.array([loosen_box(box, size, random(seed)) for seed in range(300)])
    whole = (loose == [0, 0, 200, 100]).all(1)
    assert 0.25 < whole.mean() < 0.45
    outwards = (loose[~whole] - box) * [-1, -1, 1, 1] / [100, 40, 100, 40]
    assert -0.06 <= outwards.min() < -0.04
    assert 0.18 < outwards.max() <= 0.2


def test_spoilt_pictures_are_pictures() -> None:
    image = random().integers(0, 256, (16, 16, 3), dtype=np.uint8)
    changed = [spoil(image, random(seed)) for seed in range(20)]
    assert all(one.dtype == np.uint8 and one.shape == image.shape for one in changed)
    assert 10 < np.mean([np.abs(one.astype(int) - image).mean() for one in changed]) < 80
    assert len({one.tobytes() for one in changed}) == 20
    assert np.array_equal(spoil(image, random(3)), spoil(image, random(3)))


def test_strong_samples_follow_from_the_seed_and_differ_from_light_ones(training: FashionData) -> None:
    strong = [Samples(training, SIZE, seed=0, strong=True)[0, draw] for draw in range(6)]
    again = [Samples(training, SIZE, seed=0, strong=True)[0, draw] for draw in range(6)]
    light = [Samples(training, SIZE, seed=0)[0, draw] for draw in range(6)]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(strong, again, strict=True))
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(strong, light, strict=True))
    assert all(sample.image.shape == (SIZE, SIZE, 3) for sample in strong)


# -------------------------------------------------------------------------------------------------- rows


def test_an_epoch_shows_every_row_once_and_the_next_in_another_order() -> None:
    rows = TrainingRows(np.full(12, -1, np.int32), 4, seed=0, first_step=0, last_step=6)
    seen = [row for step in range(6) for row in rows.rows_at(step)]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]
    assert seen[:12] != list(range(12))


def test_draws_have_their_own_numbers() -> None:
    rows = TrainingRows(np.array([0, 1, 1, -1, -1], np.int32), 8, seed=0, first_step=0, last_step=50)
    draws = [draw for batch in rows for _, draw in batch]
    assert len(draws) == len(set(draws)) == 400


@pytest.mark.parametrize(("singles", "pairs"), [(20, 4), (0, 8)])
def test_half_of_a_batch_is_pairs_of_one_item_or_all_of_it(singles: int, pairs: int) -> None:
    items = np.array([-1] * singles + [3, 3, 5, 5, 5, 9, 9, 9, 9, 2], np.int32)
    rows = TrainingRows(items, 16, seed=0, first_step=0, last_step=20)
    for step in range(20):
        batch = rows.rows_at(step)
        assert len(batch) == 16
        couples = np.array(batch[16 - 2 * pairs :]).reshape(-1, 2)
        assert (items[couples[:, 0]] == items[couples[:, 1]]).all()
        assert (items[couples] >= 0).all()
        alone = items[couples[:, 0]] == 2
        assert ((couples[:, 0] == couples[:, 1]) == alone).all()
        assert (items[batch[: 16 - 2 * pairs]] == -1).all()


def test_a_resumed_run_sees_the_very_batches() -> None:
    items = np.array([-1] * 9 + [0, 0, 1, 1, 1], np.int32)
    whole = list(TrainingRows(items, 8, seed=4, first_step=0, last_step=10))
    assert list(TrainingRows(items, 8, seed=4, first_step=6, last_step=10)) == whole[6:]
    assert list(TrainingRows(items, 8, seed=5, first_step=0, last_step=10)) != whole


def test_many_items_are_sorted_out_at_once() -> None:
    """The consumer-to-shop benchmark's size; one pass an item would take minutes."""
    items = np.repeat(np.arange(34_000, dtype=np.int32), 7)
    rows = TrainingRows(items, 32, seed=0, first_step=0, last_step=1)
    couples = np.array(rows.rows_at(0)).reshape(-1, 2)
    assert (items[couples[:, 0]] == items[couples[:, 1]]).all()


# -------------------------------------------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def mixed(training: FashionData, data_set: Path) -> FashionData:
    return training.append(read_inshop(data_set / "in_shop").split("train"))


def test_shapes_and_types(mixed: FashionData) -> None:
    batch = next(Loader(mixed, SIZE, seed=0, workers=0).batches(8, 0, 1))
    assert (batch.images.shape, batch.images.dtype) == ((8, SIZE, SIZE, 3), torch.uint8)
    assert (batch.landmarks.shape, batch.landmarks.dtype) == ((8, 8, 2), torch.float32)
    assert (batch.visibility.shape, batch.visibility.dtype) == ((8, 8), torch.int64)
    assert (batch.attributes.shape, batch.attributes.dtype) == ((8, len(mixed.attribute_names)), torch.int8)
    assert batch.categories.dtype == batch.items.dtype == batch.rows.dtype == torch.int64
    assert batch.categories.tolist() == mixed.categories[batch.rows.numpy()].tolist()
    assert batch.items.tolist() == mixed.items[batch.rows.numpy()].tolist()
    visible = batch.visibility == 0
    assert ((batch.landmarks[visible] >= 0) & (batch.landmarks[visible] <= 1)).all()


def test_pairs_of_another_benchmark_are_read_from_its_folder(mixed: FashionData, training: FashionData) -> None:
    assert len(mixed) > len(training)
    pairs = mixed.select(range(len(training), len(mixed)))
    assert (pairs.items >= 0).all()
    assert (pairs.categories == -1).all()
    assert (pairs.attributes != 0).all(), "the item's labels, matched by name"
    assert all((pairs.image_root / name).is_file() for name in mixed.images)


def test_one_picture_of_an_item_is_augmented_in_two_ways(training: FashionData) -> None:
    alone = replace(training.select([0]), items=np.array([3], np.int32))
    batch = next(Loader(alone, SIZE, seed=0, workers=0).batches(4, 0, 1))
    assert batch.rows.tolist() == [0, 0, 0, 0]
    assert len({image.numpy().tobytes() for image in batch.images}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_step_sees_does_not_depend_on_workers_nor_on_where_the_run_began(
    mixed: FashionData, workers: int
) -> None:
    whole = list(Loader(mixed, SIZE, seed=1, workers=0).batches(8, 0, 4))
    state = torch.get_rng_state()
    part = list(Loader(mixed, SIZE, seed=1, workers=workers).batches(8, 2, 4))
    assert [equal(*pair) for pair in zip(whole[2:], part, strict=True)] == [True, True]
    assert torch.equal(state, torch.get_rng_state()), "reading takes no random number of the training's"
    assert not equal(whole[0], next(Loader(mixed, SIZE, seed=2, workers=0).batches(8, 0, 1)))


def test_broken_pictures_are_left_out_and_listed(training: FashionData, tmp_path: Path) -> None:
    data = copied(training, tmp_path)
    truncate(tmp_path / data.images[3])
    (tmp_path / data.images[5]).unlink()
    loader = Loader(data, SIZE, seed=0, workers=0)
    rows = torch.cat([batch.rows for batch in loader.batches(7, 0, 4)]).tolist()
    assert sorted(rows) == [row for row in range(28) if row not in (3, 5)]
    assert sorted(loader.skipped) == sorted([data.images[3], data.images[5]])
    assert "truncated" in loader.skipped[data.images[3]]


def test_a_batch_without_any_good_picture(training: FashionData, tmp_path: Path) -> None:
    data = replace(training, image_root=tmp_path)
    with pytest.raises(DataError, match=r"no image of a whole batch .*No such file"):
        next(Loader(data, SIZE, seed=0, workers=0).batches(4, 0, 1))
