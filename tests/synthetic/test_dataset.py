"""Tests of the rendered garments: pictures depend only on the seed, labels are true, and the readers read the files."""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_infer.data.deepfashion import CATEGORY_NAMES as CATEGORIES
from fashion_infer.data.deepfashion import read_category, read_consumer_to_shop, read_inshop, read_landmarks
from fashion_infer.errors import DataError, UsageError
from fashion_infer.synthetic import (
    backdrops,
    designs,
    outlines,
    painting,
    people,
    rendering,
    scene,
    sketching,
    textures,
)
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.synthetic.designs import ATTRIBUTE_GROUPS, ATTRIBUTES
from fashion_infer.synthetic.outlines import sketch
from fashion_infer.synthetic.people import Pose
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM, Garment, contact_sheet, render

SLOTS = {1: {0, 1, 2, 3, 6, 7}, 2: {4, 5, 6, 7}, 3: set(range(8))}
IMAGES = 144  # enough for write_dataset to start processes


@pytest.fixture(scope="module")
def garments() -> list[Garment]:
    return [render(5, index, size=96) for index in range(4 * len(designs.CUTS))]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    write_dataset(root, images=IMAGES, seed=3, size=64, jobs=2, progress=False)
    return root


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_names_and_groups() -> None:
    assert len(CATEGORIES) == 50
    assert len(designs.CUTS) >= 15
    assert set(designs.CUTS) <= set(CATEGORIES)
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == len(ATTRIBUTE_GROUPS) >= 40
    assert set(ATTRIBUTE_GROUPS) == {"texture", "fabric", "shape", "part", "style"}
    assert set(designs.LOCAL_SLOTS) <= set(ATTRIBUTES)
    for name, cut in designs.CUTS.items():
        assert cut.clothes_type == (1 if CATEGORIES.index(name) < 20 else 2 if CATEGORIES.index(name) < 36 else 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**7), size=st.integers(48, 100))
def test_labels_hold_for_any_seed(seed: int, index: int, size: int) -> None:
    garment = render(seed, index, size=size)
    height, width = garment.image.shape[:2]
    assert garment.image.dtype == np.uint8
    assert max(height, width) == size
    assert garment.item == index // VIEWS_PER_ITEM
    assert garment.view == ("shop" if index % VIEWS_PER_ITEM < 2 else "consumer")
    x1, y1, x2, y2 = garment.box
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert set(np.flatnonzero(garment.visibility >= 0).tolist()) == SLOTS[garment.clothes_type]
    for (x, y), code in zip(garment.landmarks.tolist(), garment.visibility.tolist(), strict=True):
        assert (x, y) == (0, 0) if code in (-1, 2) else (0 <= x < width and 0 <= y < height)
    assert set(garment.attributes.tolist()) <= {-1, 0, 1}
    again = render(seed, index, size=size)
    assert (again.image == garment.image).all()
    assert again.box == garment.box


def test_views_of_one_item_share_its_labels_and_differ_in_pixels(garments: list[Garment]) -> None:
    for start in range(0, len(garments), VIEWS_PER_ITEM):
        views = garments[start : start + VIEWS_PER_ITEM]
        assert [view.view for view in views] == ["shop", "shop", "consumer", "consumer"]
        assert len({(view.item, view.category, view.clothes_type) for view in views}) == 1
        assert len({view.image.tobytes() for view in views}) == VIEWS_PER_ITEM
        labels = np.stack([view.attributes for view in views])
        assert ((labels == labels.max(axis=0)) | (labels == 0) | (labels.max(axis=0) == 0)).all(), "known labels agree"


def test_a_view_can_be_asked_for() -> None:
    assert render(1, 0, size=64, view="consumer").view == "consumer"
    assert render(1, 0, size=64, view="consumer").category == render(1, 0, size=64).category


def test_the_set_varies(garments: list[Garment]) -> None:
    assert {garment.category for garment in garments} == {CATEGORIES.index(name) for name in designs.CUTS}
    assert {code for garment in garments for code in garment.visibility.tolist()} == {-1, 0, 1, 2}
    seen = np.stack([rendering.item_attributes(8, item) for item in range(1500)])
    positives = dict(zip(ATTRIBUTES, (seen == 1).mean(axis=0).tolist(), strict=True))
    assert min(positives.values()) > 0.004, min(positives, key=lambda name: positives[name])
    assert max(positives.values()) < 0.7, max(positives, key=lambda name: positives[name])
    consumers = [garment for garment in garments if garment.view == "consumer"]
    assert np.mean([(garment.visibility > 0).any() for garment in consumers]) > 0.3
    assert np.mean([(garment.visibility == 0).sum() >= 3 for garment in consumers]) > 0.6


def test_left_is_the_viewers_left(garments: list[Garment]) -> None:
    for garment in garments:
        for left in (0, 2, 4, 6):
            if garment.view == "shop" and (garment.visibility[left : left + 2] == 0).all() and left != 2:
                assert garment.landmarks[left, 0] < garment.landmarks[left + 1, 0]


def test_visible_landmarks_lie_on_the_garment() -> None:
    """On a plain background, the pixels around a visible landmark differ from the background's grey."""
    for index in range(0, 4 * len(designs.CUTS), 4):
        garment = render(13, index, size=128)
        ramp = garment.image[:, :2].mean(axis=(1, 2))
        for (x, y), code in zip(garment.landmarks.tolist(), garment.visibility.tolist(), strict=True):
            if code == 0:
                patch = garment.image[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 4) : int(x) + 5].astype(float)
                assert np.abs(patch - ramp[int(y)]).max() > 12


def test_box_is_tight_around_a_garment_on_a_plain_ground() -> None:
    for index in range(0, 4 * len(designs.CUTS), 4):
        garment = render(13, index, size=128)
        if garment.worn:
            continue
        edges = cv2.Canny(garment.image, 60, 150)
        x, y, width, height = cv2.boundingRect(edges)
        assert np.abs(np.array(garment.box) - (x, y, x + width, y + height)).max() <= 4


def test_sleeves_behind_the_back_are_occluded_and_hair_hides_collars() -> None:
    design = designs.draw_design(np.random.default_rng(0), "Turtleneck")
    assert not sketch(design, Pose()).hidden().any()
    behind = sketch(design, Pose(arms=(0.1, 0.35), bends=(1.9, 0.0), behind=(True, False)))
    assert behind.hidden().tolist() == [False, False, True, False, False, False, False, False]
    hair = sketch(design, Pose(worn=True, long_hair=True))
    assert hair.hidden()[:2].all()


@pytest.mark.parametrize(
    ("labelled", "companion", "tucked", "occluded"),
    [
        ("Jeans", "Tee", False, [4, 5]),  # the top hangs over the waist
        ("Jeans", "Tee", True, []),
        ("Tee", "Jeans", True, [6, 7]),  # the hem is tucked into the trousers
        ("Tee", "Jeans", False, []),
        ("Bomber", "Jeans", True, []),  # a jacket is never tucked in
    ],
)
def test_of_two_garments_the_outer_one_hides_the_other(
    labelled: str, companion: str, tucked: bool, occluded: list[int]
) -> None:
    rng = np.random.default_rng(2)
    design, other = (
        replace(designs.draw_design(rng, name), ease=0.09 if name == "Bomber" else 0.02)
        for name in (labelled, companion)
    )
    other = replace(other, ease=0.05)  # wide enough to lie over the other at its corners
    drawing = sketch(design, Pose(worn=True, tucked=tucked), other)
    assert np.flatnonzero(drawing.hidden()).tolist() == occluded
    assert {shape.owner for shape in drawing.shapes} == {0, 1}
    assert set(np.flatnonzero(drawing.present).tolist()) == SLOTS[design.clothes_type]


@pytest.mark.parametrize("index", [1460, 2507, 3548, 3796])
def test_a_long_top_leaves_some_of_short_trousers_to_see(index: int) -> None:
    x1, y1, x2, y2 = render(0, index).box
    assert (x2 - x1) * (y2 - y1) > 200


def test_arms_across_hide_the_waist_of_a_dress_without_sleeves() -> None:
    design = replace(designs.draw_design(np.random.default_rng(0), "Dress"), sleeve="none", ease=0.01)
    hands = Pose(worn=True, arms=(0.8, 0.2), bends=(1.9, 0.0))
    assert sketch(design, hands).hidden()[4], "the left hand rests at the waist"
    assert not sketch(design, replace(hands, worn=False)).hidden()[4:6].any()


def test_what_is_beside_does_not_change_the_labels() -> None:
    pose = Pose()
    drawing, outfit = rendering.sketch_person(3, 1, 0, 64, pose)
    other, others = rendering.sketch_person(3, 1, 2, 64, pose)
    alone = (drawing.landmarks.tolist(), drawing.hidden().tolist(), drawing.present.tolist())
    own = [shape.points for shape in drawing.shapes if shape.own]
    drawing.put_behind(other, np.array([0.7, 0.0]))
    assert (drawing.landmarks.tolist(), drawing.hidden().tolist(), drawing.present.tolist()) == alone
    assert all(a is b for a, b in zip(own, [s.points for s in drawing.shapes if s.own], strict=True))
    camera = np.array([[50.0, 0, 40], [0, 50.0, 10], [0, 0, 1]])
    layer = painting.paint(drawing, outfit | others, camera, np.random.default_rng(0), (64, 128))
    assert layer.painted.any(axis=0).nonzero()[0].max() > layer.garment.any(axis=0).nonzero()[0].max() + 10


def test_at_least_half_of_a_consumers_garments_lie_or_hang() -> None:
    poses = [people.draw_pose(np.random.default_rng(seed), consumer=True) for seed in range(400)]
    assert 0.3 < np.mean([pose.worn for pose in poses]) < 0.5
    assert 0.1 < np.mean([pose.hanging for pose in poses]) < 0.35
    assert not any(pose.worn and pose.hanging for pose in poses)


@pytest.mark.parametrize("shape", [(48, 35), (96, 96), (700, 560)])
@pytest.mark.parametrize("pose", [Pose(worn=True), Pose(hanging=True), Pose()], ids=["worn", "hanging", "lying"])
def test_every_backdrop_fills_any_picture(shape: tuple[int, int], pose: Pose) -> None:
    pictures = [backdrops.backdrop(np.random.default_rng(seed), shape, pose, consumer=True) for seed in range(20)]
    assert all(picture.shape == (*shape, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_visibility_codes_by_hand() -> None:
    points = np.array([[5, 5], [-1, 5], [5, 30], [19, 9], [20, 5], [3, 3], [4, 4], [6, 6]], np.float64)
    present = np.array([True] * 6 + [False, True])
    hidden = np.array([False, True, False, False, False, True, True, False])
    codes = rendering.visibility_of(points, present, hidden, (10, 20))
    assert codes.tolist() == [0, 2, 2, 0, 2, 1, -1, 0]
    mask = np.zeros((10, 20), np.uint8)
    mask[5, 5] = 255
    assert rendering.covered(mask, points).tolist() == [True] + [False] * 7


def test_details_that_cannot_be_seen_are_unknown() -> None:
    row = np.full(len(ATTRIBUTES), -1, np.int8)
    row[ATTRIBUTES.index("contrast cuff")] = 1
    one_cuff = rendering.as_seen(row, np.array([0, 0, 2, 0, -1, -1, 0, 0], np.int8))
    assert (one_cuff == row).all()
    no_cuff = rendering.as_seen(row, np.array([0, 0, 2, 1, -1, -1, 0, 0], np.int8))
    unknown = {name for name, label in zip(ATTRIBUTES, no_cuff.tolist(), strict=True) if label == 0}
    assert unknown == {"contrast cuff", "striped cuff", "lace cuff", "ribbed cuff"}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), category=st.sampled_from(sorted(designs.CUTS)))
def test_attributes_are_consistent(seed: int, category: str) -> None:
    names = designs.attributes_of(designs.draw_design(np.random.default_rng(seed), category))
    groups = [ATTRIBUTE_GROUPS[ATTRIBUTES.index(name)] for name in names]
    assert groups.count("texture") == 1
    assert groups.count("fabric") == 1
    assert len(names & {"mini", "midi", "maxi"}) == (0 if designs.CUTS[category].clothes_type == 1 else 1)
    if designs.CUTS[category].clothes_type == 2:
        assert not names & {"sleeveless", "long-sleeve", "contrast cuff", "v-neck", "crew neck", "contrast collar"}


def test_pixels_of_a_local_detail_lie_near_its_landmarks() -> None:
    """A garment with a trimmed cuff differs from the same one without near the cuffs only."""
    plain = replace(designs.draw_design(np.random.default_rng(4), "Tee"), cuff_trim="none", style="none")
    trimmed = replace(plain, cuff_trim="contrast")
    camera = np.array([[150.0, 0, 64], [0, 150.0, 20], [0, 0, 1]])

    def painted(design: designs.Design) -> np.ndarray:
        drawing = sketch(design, Pose())
        clothing = painting.Clothing(design, textures.cloth(design, np.random.default_rng(1), 128))
        layer = painting.paint(drawing, {0: clothing}, camera, np.random.default_rng(2), (128, 128))
        return layer.image.astype(int)

    changed = np.argwhere(np.abs(painted(plain) - painted(trimmed)).max(axis=2) > 25)[:, ::-1]
    cuffs = painting.project(sketch(plain, Pose()).landmarks[2:4], camera)
    assert len(changed) > 50
    assert np.linalg.norm(changed[:, None] - cuffs[None], axis=2).min(axis=1).max() < 22


def test_cameras_keep_most_of_the_garment() -> None:
    outline = sketching.xy((-0.3, 0.0), (0.3, 0.0), (0.3, 0.8), (-0.3, 0.8))
    for seed in range(50):
        camera = scene.place_camera(np.random.default_rng(seed), outline, outline, (100, 80), consumer=True)
        assert scene.share_inside(painting.project(outline, camera), (100, 80)) > 0.55


def test_every_pose_of_every_cut_is_drawn_whole() -> None:
    for name in designs.CUTS:
        for seed in range(4):
            rng = np.random.default_rng(seed)
            drawing = outlines.sketch(designs.draw_design(rng, name), people.draw_pose(rng, consumer=True))
            assert set(np.flatnonzero(drawing.present).tolist()) == SLOTS[designs.CUTS[name].clothes_type]
            assert all(np.isfinite(shape.points).all() for shape in drawing.shapes)


def test_contact_sheet() -> None:
    sheet = contact_sheet(0, columns=8, size=40)
    assert sheet.shape == (-(-2 * len(designs.CUTS) // 8) * 60, 320, 3)
    assert sheet.dtype == np.uint8


def test_category_files_hold_what_was_rendered(data_set: Path) -> None:
    data = read_category(data_set / "category_attribute")
    assert len(data) == IMAGES
    assert data.category_names == CATEGORIES
    assert data.attribute_names == ATTRIBUTES
    assert data.attribute_groups == ATTRIBUTE_GROUPS
    for index in (0, 3, 41, IMAGES - 1):
        garment = render(3, index, size=64)
        assert data.categories[index] == garment.category
        assert data.boxes[index].tolist() == list(garment.box)
        assert data.attributes[index].tolist() == garment.attributes.tolist()
        assert data.visibility[index].tolist() == garment.visibility.tolist()
        assert data.landmarks[index].tolist() == np.floor(garment.landmarks).tolist()
        photo = np.asarray(cv2.imread(str(data.image_root / data.images[index])))[:, :, ::-1].astype(int)
        assert np.abs(photo - garment.image).mean() < 8, "the JPEG shows the rendered picture"


def test_no_item_is_in_two_splits(data_set: Path) -> None:
    splits = read_category(data_set / "category_attribute").splits.reshape(-1, VIEWS_PER_ITEM)
    assert (splits == splits[:, :1]).all()
    counts = {split: int((splits[:, 0] == split).sum()) for split in ("train", "val", "test")}
    assert counts == {"train": 25, "val": 6, "test": 5}
    landmarks = read_landmarks(data_set / "landmarks")
    assert landmarks.splits.tolist() == splits.ravel().tolist()
    assert landmarks.landmarks.tolist() == read_category(data_set / "category_attribute").landmarks.tolist()


def test_in_shop_queries_have_their_item_in_the_gallery(data_set: Path) -> None:
    data = read_inshop(data_set / "in_shop")
    assert len(data) == IMAGES // 2
    query, gallery, train = data.split("query"), data.split("gallery"), data.split("train")
    assert set(query.items.tolist()) == set(gallery.items.tolist())
    assert not set(query.items.tolist()) & set(train.items.tolist())
    assert (data.attributes != 0).all(), "an item's labels are all known"
    assert all((data.image_root / name).is_file() for name in data.images)


def test_consumer_to_shop_pairs_both_domains(data_set: Path) -> None:
    data = read_consumer_to_shop(data_set / "consumer_to_shop")
    assert len(data) == IMAGES
    assert (np.bincount(data.domains) == [0, IMAGES // 2, IMAGES // 2]).all()
    for item in np.unique(data.items):
        assert sorted(data.domains[data.items == item].tolist()) == [1, 1, 2, 2]
    assert all((data.image_root / name).is_file() for name in data.images)


def test_files_do_not_depend_on_the_number_of_processes(data_set: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", images=IMAGES, seed=3, size=64, jobs=1, progress=False)
    assert digests(tmp_path / "one") == digests(data_set)


def test_an_item_cut_short(tmp_path: Path) -> None:
    """Of five images, the second item has only one shop view."""
    write_dataset(tmp_path / "set", images=5, seed=0, size=64, progress=False)
    assert len(read_category(tmp_path / "set/category_attribute")) == 5
    data = read_inshop(tmp_path / "set/in_shop")
    assert data.items.tolist() == [1, 1, 2]
    assert data.splits[2] in ("train", "gallery")
    assert read_consumer_to_shop(tmp_path / "set/consumer_to_shop").splits[4] == ""


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        write_dataset(tmp_path, images=4, seed=0)
    with pytest.raises(DataError, match="file"):
        write_dataset(tmp_path / "file", images=4, seed=0, progress=False)
    for numbers, message in (
        ({"images": 0}, "images must be"),
        ({"seed": -1}, "seed must be"),
        ({"size": 0}, "size must"),
    ):
        with pytest.raises(UsageError, match=message):
            write_dataset(tmp_path / "new", **{"images": 4, "seed": 0} | numbers)

    def fill(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(DataError, match=r"img_00000001\.jpg: No space left on device"):
        write_dataset(tmp_path / "new", images=4, seed=0, progress=False)


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "set", images=4, seed=0, size=48)
    output = capsys.readouterr()
    assert output.out == ""
    assert "4/4" in output.err
