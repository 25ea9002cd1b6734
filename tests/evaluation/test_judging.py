"""Evaluation on small sets, of a small network and of its exported file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fashion_infer.data import benchmarks
from fashion_infer.data.deepfashion import FashionData, read_category, read_consumer_to_shop, read_inshop
from fashion_infer.errors import DataError
from fashion_infer.evaluation.judging import Run, judge, judge_folder, select_split
from fashion_infer.evaluation.protocols import PUBLISHED
from fashion_infer.images import read_image
from fashion_infer.model_spec import ModelSpec
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import crop
from fashion_infer.synthetic.dataset import write_dataset

SIZE = 32
IMAGES = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judge") / "set"
    write_dataset(root, images=IMAGES, seed=5, size=64, jobs=1, progress=False)
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> FashionData:
    return read_category(root / "category_attribute")


def spec_of(data: FashionData) -> ModelSpec:
    return ModelSpec(
        arch="vgg16",
        image_size=SIZE,
        categories=data.category_names or ("Tee",),  # a retrieval set may have no categories
        attributes=data.attribute_names,
        attribute_groups=data.attribute_groups,
        embedding_dim=4,
        trained=True,
        weights_sha256="0" * 64,
    )


def oracle(data: FashionData, spec: ModelSpec) -> Run:
    """A network whose outputs are the labels of the rows in order, by the model's names and relative to the crop."""
    rows = iter(range(len(data)))

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        some = [next(rows) for _ in batch]
        category = np.zeros((len(some), len(spec.categories)), np.float32)
        attributes = np.zeros((len(some), len(spec.attributes)), np.float32)
        landmarks = np.zeros((len(some), 8, 2), np.float32)
        for i, row in enumerate(some):
            if data.categories[row] >= 0 and (name := data.category_names[data.categories[row]]) in spec.categories:
                category[i, spec.categories.index(name)] = 1
            for j, name in enumerate(data.attribute_names):
                if name in spec.attributes:
                    attributes[i, spec.attributes.index(name)] = data.attributes[row, j]
            picture = read_image(data.image_root / data.images[row])
            landmarks[i] = crop(picture, data.boxes[row], SIZE).from_image(data.landmarks[row])
        embedding = np.eye(len(data), dtype=np.float32)[np.unique(data.items, return_inverse=True)[1][some]]
        return {"category": category, "attributes": attributes, "landmarks": landmarks, "embedding": embedding}

    return run


def test_the_truth_is_judged_right_whatever_the_order_of_the_models_names(data: FashionData) -> None:
    spec = spec_of(data)
    order = np.random.default_rng(0).permutation(len(spec.attributes))
    shuffled = replace(
        spec,
        categories=spec.categories[::-1],
        attributes=tuple(spec.attributes[i] for i in order),
        attribute_groups=tuple(spec.attribute_groups[i] for i in order),
    )
    for model in (spec, shuffled):
        result = judge(oracle(data, model), model, data, batch_size=7)
        assert result.images == IMAGES
        assert (result.skipped, result.unknown_categories, result.unknown_attributes) == ({}, (), ())
        assert result.evaluation.category == {1: 1, 3: 1, 5: 1}
        assert result.evaluation.landmarks_box is not None
        assert result.evaluation.landmarks_box.mean == pytest.approx(0, abs=1e-6)
        assert result.evaluation.attributes is not None
        assert result.evaluation.attributes["texture"][3] == 1, "at most one texture is positive"
        json.dumps(result.to_dict())


def test_landmarks_are_measured_in_shares_of_the_box_and_of_the_photo(data: FashionData) -> None:
    """The predictions are off by a tenth of the crop, which is another share of the labelled box and of the photo."""
    exact = oracle(data, spec_of(data))

    def off(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = exact(batch)
        return {**outputs, "landmarks": outputs["landmarks"] + np.float32([0.1, 0])}

    evaluation = judge(off, spec_of(data), data).evaluation
    of_box, of_image = [], []
    for row in range(len(data)):
        picture = read_image(data.image_root / data.images[row])
        cut = crop(picture, data.boxes[row], SIZE).size[0]
        x1, _, x2, _ = data.boxes[row].tolist()
        of_box.append(0.1 * cut / (min(x2, picture.width) - max(x1, 0)))
        of_image.append(0.1 * cut / picture.width)
    visible = data.visibility == 0
    for error, shares in ((evaluation.landmarks_box, of_box), (evaluation.landmarks_image, of_image)):
        by_hand = [np.mean(np.array(shares)[visible[:, i]]) for i in range(8) if visible[:, i].any()]
        assert error is not None
        assert error.mean == pytest.approx(np.mean(by_hand), rel=1e-4)


def test_what_the_model_does_not_know_counts_as_a_miss(data: FashionData) -> None:
    spec = spec_of(data)
    lost = data.category_names[int(data.categories[0])]
    texture = {name for name, group in zip(spec.attributes, spec.attribute_groups, strict=True) if group == "texture"}
    kept = [i for i, name in enumerate(spec.attributes) if name not in texture]
    poorer = replace(
        spec,
        categories=tuple(name for name in spec.categories if name != lost),
        attributes=tuple(spec.attributes[i] for i in kept),
        attribute_groups=tuple(spec.attribute_groups[i] for i in kept),
    )
    result = judge(oracle(data, poorer), poorer, data)
    share = float((data.categories == data.categories[0]).mean())
    assert result.unknown_categories == (lost,)
    assert set(result.unknown_attributes) == texture
    assert result.evaluation.category == pytest.approx({1: 1 - share, 3: 1 - share, 5: 1 - share})
    assert result.evaluation.attributes is not None
    assert result.evaluation.attributes["texture"] == {3: 0, 5: 0}


def test_a_model_with_a_single_category_does_not_hit_the_others(data: FashionData) -> None:
    name = data.category_names[int(data.categories[0])]
    spec = replace(spec_of(data), categories=(name,))
    result = judge(oracle(data, spec), spec, data)
    assert result.evaluation.category == pytest.approx(
        dict.fromkeys((1, 3, 5), float((data.categories == data.categories[0]).mean()))
    )


def test_categories_of_the_model_that_the_set_does_not_know_take_part(data: FashionData) -> None:
    spec = replace(spec_of(data), categories=("Spacesuit", *data.category_names))
    exact = oracle(data, spec)

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = exact(batch)
        outputs["category"][:, 0] = 2
        return outputs

    result = judge(run, spec, data)
    assert result.evaluation.category == {1: 0, 3: 1, 5: 1}


@pytest.mark.parametrize(("field", "word"), [("categories", "categories"), ("attributes", "attributes")])
def test_a_model_of_other_things_is_refused(data: FashionData, field: str, word: str) -> None:
    spec = spec_of(data)
    foreign = replace(spec, **{field: tuple(f"other {i}" for i in range(len(getattr(spec, field))))})
    with pytest.raises(DataError, match=f"none of the set's {word} .*: it has other 0"):
        judge(oracle(data, foreign), foreign, data)


@pytest.mark.parametrize(("read", "folder"), [(read_inshop, "in_shop"), (read_consumer_to_shop, "consumer_to_shop")])
def test_retrieval_needs_no_common_attributes(root: Path, read: object, folder: str) -> None:
    assert callable(read)
    data = read(root / folder)
    data = data.split("query", "gallery") if folder == "in_shop" else data.split("test")
    spec = replace(spec_of(data), categories=("Tee",), attributes=("other",), attribute_groups=("part",))
    result = judge(oracle(data, spec), spec, data)
    assert result.unknown_attributes == data.attribute_names
    assert result.evaluation.category is None
    assert result.evaluation.attributes is None
    assert result.evaluation.retrieval is not None
    metrics = result.evaluation.retrieval.to_dict()
    assert metrics["retrieval_hit1"] == metrics["retrieval_map"] == 1
    item_of = dict(zip(data.images, data.items.tolist(), strict=True))
    assert result.ranks
    for query in result.ranks:
        images = sum(
            item_of[name] == query["item"]
            for name, split, domain in zip(data.images, data.splits, data.domains, strict=True)
            if (split == "gallery" if folder == "in_shop" else domain == 1)
        )
        assert item_of[query["image"]] == query["item"]
        assert query["ranks"] == list(range(1, images + 1))
    assert len({query["kind"] for query in result.ranks}) > 1
    json.dumps(result.to_dict())


def test_broken_images_are_skipped_counted_and_named(data: FashionData, tmp_path: Path) -> None:
    for name in data.images:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((data.image_root / name).read_bytes())
    truncated, missing = data.images[1], data.images[9]
    content = (tmp_path / truncated).read_bytes()
    (tmp_path / truncated).write_bytes(content[: len(content) // 2])
    (tmp_path / missing).unlink()
    broken = replace(data, image_root=tmp_path)
    good = np.setdiff1d(np.arange(len(data)), [1, 9])
    result = judge(oracle(broken.select(good), spec_of(data)), spec_of(data), broken, batch_size=4)
    assert result.images == IMAGES - 2
    assert sorted(result.skipped) == sorted([truncated, missing])
    assert "truncated" in result.skipped[truncated]
    assert result.evaluation.category == {1: 1, 3: 1, 5: 1}, "the rows still go with their labels"


def test_nothing_to_judge(data: FashionData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image of the set can be read: .*No such file"):
        judge(oracle(data, spec_of(data)), spec_of(data), replace(data, image_root=tmp_path))
    with pytest.raises(DataError, match="no image of the set can be read: it has none"):
        judge(oracle(data, spec_of(data)), spec_of(data), data.select([]))


def test_an_error_of_the_network_reaches_the_caller(data: FashionData) -> None:
    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        judge(run, spec_of(data), data, batch_size=2)


def test_a_checkpoint_and_its_exported_file_are_judged_alike(
    data: FashionData, checkpoint: Path, onnx_model: Path
) -> None:
    from fashion_infer.training.checkpoint import load_checkpoint
    from fashion_infer.training.trainer import network_run

    network, spec = load_checkpoint(checkpoint)
    common = np.argsort(-np.bincount(data.categories, minlength=50))[: len(spec.categories)]
    frequent = np.argsort(-(data.attributes == 1).sum(axis=0))[: len(spec.attributes)]
    spec = replace(  # names that occur in the set
        spec,
        categories=tuple(data.category_names[i] for i in common),
        attributes=tuple(data.attribute_names[i] for i in frequent),
    )
    before = judge(network_run(network, spec), spec, data).to_dict()["evaluation"]
    with Predictor(onnx_model) as predictor:
        after = judge(predictor.run, spec, data, batch_size=5).to_dict()["evaluation"]
    assert before.keys() == after.keys()
    assert before["category_top3"] > 0
    assert before["attribute_recall3_all"] > 0
    for name in ("pdl_curve_box", "pdl_curve_pixels"):
        assert after.pop(name) == pytest.approx(before.pop(name))
    unlike = {
        name for name, value in before.items() if value is not None and after[name] != pytest.approx(value, rel=1e-4)
    }
    assert not unlike


# ------------------------------------------------------------------------------------------------- folders


def blind(batch: np.ndarray) -> dict[str, np.ndarray]:
    """A network whose outputs are all 0."""
    count = len(batch)
    shapes = {"category": (count, 50), "attributes": (count, 77), "landmarks": (count, 8, 2), "embedding": (count, 4)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_every_benchmark_of_a_folder_is_judged(root: Path, data: FashionData) -> None:
    judged = judge_folder(blind, spec_of(data), root).judgements
    assert {name: judgement.images for name, judgement in judged.items()} == {
        "category": 8, "consumer_to_shop": 8, "in_shop": 6, "landmarks": 8,
    }  # fmt: skip
    assert judged["in_shop"].evaluation.retrieval is not None
    assert judged["consumer_to_shop"].evaluation.retrieval is not None
    assert all(judgement.published == {} for judgement in judged.values()), "these are not the paper's data"


def test_one_benchmark_and_another_split(root: Path, data: FashionData) -> None:
    (judgement,) = judge_folder(blind, spec_of(data), root, benchmark="landmarks", split="val").judgements.values()
    assert judgement.evaluation.landmarks_box is not None
    assert judgement.evaluation.category is None
    names = ["landmark_error_box", "landmark_error_image", "pdl_35_box", "pdl_35_pixels"]
    assert [name for name, *_ in judgement.rows()] == names


def test_the_papers_numbers_stand_beside_the_papers_data_only(
    root: Path, data: FashionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root / "category_attribute"
    monkeypatch.setitem(benchmarks.OFFICIAL, "category", benchmarks.count(folder, "category", data))
    official = judge_folder(blind, spec_of(data), folder).judgements["category"]
    assert official.published == PUBLISHED["category"]
    rows = {name: paper for name, _, paper in official.rows()}
    assert rows["category_top3"] == 0.8258
    assert rows["category_top1"] is None, "the paper does not say"
    assert rows["landmark_error_box"] == 0.0872
    assert rows["landmark_error_image"] is None, "the paper divided by the box"
    assert judge_folder(blind, spec_of(data), folder, split="val").judgements["category"].published == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"benchmark": "category_fine"}, "holds no benchmark category_fine: fashion-infer data check"),
        ({"split": "tests"}, "no images in split 'tests'; there are test, train, val"),
    ],
)
def test_what_is_not_there(root: Path, data: FashionData, settings: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        judge_folder(blind, spec_of(data), root, **settings)


def test_a_folder_without_a_benchmark(data: FashionData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no benchmark of DeepFashion"):
        judge_folder(blind, spec_of(data), tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        judge_folder(blind, spec_of(data), tmp_path / "none")


def test_a_benchmark_that_cannot_be_judged_stops_no_other(root: Path, data: FashionData, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "set")
    shutil.rmtree(tmp_path / "set/in_shop/Img")
    (tmp_path / "set/landmarks/Anno/list_landmarks.txt").write_text("no count\n")
    judged = judge_folder(blind, spec_of(data), tmp_path / "set")
    assert set(judged.judgements) == {"category", "consumer_to_shop"}
    assert set(judged.failed) == {"in_shop", "landmarks"}
    assert "no image of the set can be read" in judged.failed["in_shop"]
    assert "the number of rows expected" in judged.failed["landmarks"]
    report = json.loads(json.dumps(judged.to_dict()))
    assert report["landmarks"] == {"error": judged.failed["landmarks"]}
    assert report["category"]["images"] == 8


def test_two_folders_of_the_same_benchmark_are_both_judged(root: Path, data: FashionData, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(root / "category_attribute", tmp_path / name)
    judged = judge_folder(blind, spec_of(data), tmp_path)
    assert set(judged.judgements) == {"category in one", "category in two"}


def test_consumers_are_looked_up_in_the_gallery_that_was_asked_for(root: Path, data: FashionData) -> None:
    whole = read_consumer_to_shop(root / "consumer_to_shop")
    test, both = select_split(whole, "test"), select_split(whole, "test", "val+test")
    assert set(test.splits) == {"test"}
    shops_of_val = (whole.splits == "val") & (whole.domains == 1)
    assert len(both) == len(test) + int(shops_of_val.sum()) > len(test)
    assert set(both.domains[both.splits == "val"]) == {1}, "queries are of the test items only"
    assert (both.visibility[both.splits == "val"] == -2).all(), "landmarks are judged on the split alone"
    assert select_split(whole, "val", "val+test").images == whole.split("val").images
    spec = spec_of(data)
    sizes = {}
    for gallery in ("test", "val+test"):
        judged = judge_folder(blind, spec, root / "consumer_to_shop", gallery=gallery).judgements["consumer_to_shop"]
        retrieval = judged.evaluation.retrieval
        assert retrieval is not None
        sizes[gallery] = (len(retrieval.ranks), retrieval.gallery_size)
        assert judged.evaluation.landmarks_box is not None
        assert judged.evaluation.landmarks_box.counts.sum() == (test.visibility == 0).sum()
    assert sizes["test"] == (4, 4)
    assert sizes["val+test"] == (4, 4 + int(shops_of_val.sum()))


def test_the_published_row_is_of_the_gallery_of_2016(
    root: Path, data: FashionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root / "consumer_to_shop"
    counts = benchmarks.count(folder, "consumer_to_shop", read_consumer_to_shop(folder))
    monkeypatch.setitem(benchmarks.OFFICIAL, "consumer_to_shop", counts)
    for gallery, published in (("test", PUBLISHED["consumer_to_shop"]), ("val+test", {})):
        judged = judge_folder(blind, spec_of(data), folder, gallery=gallery)
        assert judged.judgements["consumer_to_shop"].published == published


def test_without_boxes_and_landmarks_whole_photos_are_judged(root: Path, data: FashionData, tmp_path: Path) -> None:
    shutil.copytree(root / "in_shop", tmp_path / "set")
    shutil.rmtree(tmp_path / "set/Anno")
    judged = judge_folder(blind, spec_of(data), tmp_path / "set").judgements["in_shop"]
    assert judged.evaluation.landmarks_box is None
    assert judged.evaluation.attributes is None
    assert judged.evaluation.retrieval is not None
    assert len(judged.missing) == 4
    assert dict(judged.remarks())["things are missing"] == list(judged.missing)


def test_the_box_is_the_photo_where_there_is_none(data: FashionData) -> None:
    whole = replace(data, boxes=np.full_like(data.boxes, np.nan))
    seen = []

    def off(batch: np.ndarray) -> dict[str, np.ndarray]:
        rows = range(len(seen), len(seen) + len(batch))
        seen.extend(batch)
        points = []
        for row in rows:
            picture = read_image(data.image_root / data.images[row])
            points.append(data.landmarks[row] / [picture.width, picture.height] + 0.1)
        return {**blind(batch), "landmarks": np.array(points, np.float32)}

    evaluation = judge(off, spec_of(data), whole).evaluation
    assert evaluation.landmarks_box is not None
    assert evaluation.landmarks_image is not None
    assert evaluation.landmarks_box.mean == pytest.approx(evaluation.landmarks_image.mean)
    assert evaluation.landmarks_box.mean == pytest.approx(0.1 * 2**0.5, rel=1e-4)


def test_own_retrieval_data_is_judged(root: Path, data: FashionData, tmp_path: Path) -> None:
    """A retrieval set may have categories that the model lacks, as it may have such attributes."""
    shops = read_inshop(root / "in_shop").split("query", "gallery")
    rows = [
        f"{name},{item},{split},Gown" for name, item, split in zip(shops.images, shops.items, shops.splits, strict=True)
    ]
    (tmp_path / "retrieval.csv").write_text("\n".join(["image,item,split,category", *rows]))
    (tmp_path / "img").symlink_to(shops.image_root / "img")
    own = judge_folder(blind, spec_of(data), tmp_path).judgements["retrieval"]
    theirs = judge_folder(blind, spec_of(data), root / "in_shop").judgements["in_shop"]
    assert own.evaluation.category is None
    assert own.unknown_categories == ("Gown",)
    assert own.evaluation.retrieval is not None
    assert theirs.evaluation.retrieval is not None
    assert own.evaluation.retrieval.gallery_size == theirs.evaluation.retrieval.gallery_size
    assert [query["image"] for query in own.ranks] == [query["image"] for query in theirs.ranks]
    assert {query["kind"] for query in own.ranks} == {"Gown"}
