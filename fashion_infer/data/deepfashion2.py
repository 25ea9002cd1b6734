"""DeepFashion2 (Ge et al., CVPR 2019), read from its download into a FashionData with a row for each garment.

A folder holds `train/` and `validation/`, each with `image/000001.jpg` and `annos/000001.json`; the labels of the test
set are not public. The layout is described in the data set's readme (github.com/switchablenorms/DeepFashion2). A row
has the garment's box, its category out of 13, its landmarks and its item.

Garments with the same style, from 1, on photos of the same pair are the same item for retrieval. Consumers' photos are
looked up among those of the shops.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.data.annotations import SLOTS, SPLITS
from fashion_infer.data.columns import build
from fashion_infer.data.fashion_data import ABSENT, CONSUMER, SHOP, UNLABELLED, FashionData
from fashion_infer.errors import DataError
from fashion_infer.model_spec import LANDMARK_NAMES

FOLDERS = {"train": "train", "validation": "val"}  # folder -> name of the split
DOMAINS = {"shop": SHOP, "user": CONSUMER}
VISIBILITIES = {2: 0, 1: 1, 0: UNLABELLED}  # DeepFashion2's code for visible, occluded, not labelled -> ours
UPPER, LOWER, FULL = 1, 2, 3

Points = tuple[int, ...]  # numbers of DeepFashion2's landmarks, from 1 as in the readme's figure
Slots = dict[str, Points]  # our landmark's name -> the landmarks whose mean position it gets


def _slots(**points: tuple[Points, Points]) -> Slots:
    """Make the slots `left_NAME` and `right_NAME` from the two sets of landmarks of each name."""
    return {
        f"{side}_{name}": landmarks
        for name, both in points.items()
        for side, landmarks in zip(("left", "right"), both, strict=True)
    }


# Category -> clothes type, number of landmarks, and the landmarks that give the positions of ours. Figure 2 of the
# readme shows their numbers. The pairs of mirrored landmarks, which confirm the order along the outline, are listed in
# github.com/svip-lab/HRNet-for-Fashion-Landmark-Estimation.PyTorch. A sleeve's landmark is the middle of its cuff, the
# hem of trousers the middle of a leg's opening. Landmarks of the clothes type that are not listed here stay unlabelled,
# because no landmark of DeepFashion2 certainly has that place: the waist of dresses, the shoulder of sleeveless
# garments, and the collar of short sleeve outwear, about which the sources disagree.
CATEGORIES: dict[str, tuple[int, int, Slots]] = {
    "short sleeve top": (UPPER, 25, _slots(collar=((2,), (6,)), sleeve=((9, 10), (22, 23)), hem=((15,), (17,)))),
    "long sleeve top": (UPPER, 33, _slots(collar=((2,), (6,)), sleeve=((11, 12), (28, 29)), hem=((19,), (21,)))),
    "short sleeve outwear": (UPPER, 31, _slots(sleeve=((9, 10), (22, 23)), hem=((15,), (17,)))),
    "long sleeve outwear": (UPPER, 39, _slots(collar=((2,), (6,)), sleeve=((11, 12), (28, 29)), hem=((19,), (21,)))),
    "vest": (UPPER, 15, _slots(collar=((2,), (6,)), hem=((10,), (12,)))),
    "sling": (UPPER, 15, _slots(collar=((2,), (6,)), hem=((10,), (12,)))),
    "shorts": (LOWER, 10, _slots(waistline=((1,), (3,)), hem=((5, 6), (8, 9)))),
    "trousers": (LOWER, 14, _slots(waistline=((1,), (3,)), hem=((6, 7), (11, 12)))),
    "skirt": (LOWER, 8, _slots(waistline=((1,), (3,)), hem=((5,), (7,)))),
    "short sleeve dress": (FULL, 29, _slots(collar=((2,), (6,)), sleeve=((9, 10), (26, 27)), hem=((17,), (19,)))),
    "long sleeve dress": (FULL, 37, _slots(collar=((2,), (6,)), sleeve=((11, 12), (32, 33)), hem=((21,), (23,)))),
    "vest dress": (FULL, 19, _slots(collar=((2,), (6,)), hem=((12,), (14,)))),
    "sling dress": (FULL, 19, _slots(collar=((2,), (6,)), hem=((12,), (14,)))),
}
NAMES = tuple(CATEGORIES)  # in the order of category_id, which counts from 1

Report = Callable[[Path, str], None]  # function of a file and its fault


def fail(path: Path, message: str) -> None:
    """The Report of a reader: it raises a DataError for the first malformed file."""
    raise DataError(f"{path}: {message}")


def read_deepfashion2(root: Path, *, highres: bool | None = None) -> FashionData:
    """Read DeepFashion2. An image has a row for each of its garments.

    Args:
        root: the folder of `train/` and `validation/`; one of them is enough.
        highres: must not be True, because there are no high-resolution photos.

    Raises:
        DataError: there is no annotation, a file is malformed, or `highres` is True.
    """
    root = Path(root)
    if highres:
        raise DataError(f"{root}: DeepFashion2 has no high-resolution photos")
    garments = list(read_garments(root))
    if not garments:
        raise DataError(f"{root}: no garment in train/annos or validation/annos")
    members = [garment["member"] for garment in garments]
    numbers = {member: number for number, member in enumerate(dict.fromkeys(m for m in members if m[2] > 0))}
    data = build(
        root,
        [garment["image"] for garment in garments],
        splits=np.array([SPLITS.index(garment["member"][0]) for garment in garments]),
        boxes=np.array([garment["box"] for garment in garments], np.float64),
        landmarks=np.array([garment["landmarks"] for garment in garments], np.float64),
        categories=np.array([garment["category"] for garment in garments]),
        items=np.array([numbers.get(member, -1) for member in members]),
        domains=np.array([garment["domain"] for garment in garments]),
        category_names=NAMES,
        missing=["DeepFashion2 labels no attributes: they are neither trained nor judged"],
    )
    return replace(data, image_root=root)


def read_garments(
    root: Path, folders: Sequence[str] = tuple(FOLDERS), *, report: Report = fail
) -> Iterator[dict[str, Any]]:
    """Yield every garment of the annotation files, in the order of the files' names.

    Args:
        root: the folder of `train/` and `validation/`.
        folders: names of the folders to read.
        report: function that is called with each malformed file, whose garments are left out if it returns.
    """
    for folder in folders:
        for path in sorted((root / folder / "annos").glob("*.json")):
            try:
                image = json.loads(path.read_text(encoding="utf-8-sig"))
                facts = {"image": f"{folder}/image/{path.stem}.jpg", "domain": DOMAINS[image["source"]]}
                pair = _number(image["pair_id"], "pair_id")
                garments = [
                    {
                        **facts,
                        **parse_item(name, item),
                        "member": (FOLDERS[folder], pair, _number(item["style"], "style")),
                    }
                    for name, item in image.items()
                    if name.startswith("item")
                ]
            except OSError as error:
                report(path, str(error.strerror))
            except KeyError as error:
                report(path, f"no {error.args[0]!r}, or not one of those of the readme")
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                report(path, str(error))
            else:
                yield from garments


def parse_item(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """Parse one garment.

    Returns:
        `category` from 0, `box` x1 y1 x2 y2 in pixels, and `landmarks`, 25 values as in `annotations.parse_landmarks`.
    """
    category = item["category_name"]
    if category not in CATEGORIES:
        raise ValueError(f"{name} is of category {category!r}, which is none of the 13")
    clothes_type, count, slots = CATEGORIES[category]
    box = [_number(value, f"{name}'s bounding_box") for value in item["bounding_box"]]
    if len(box) != 4:
        raise ValueError(f"{name}'s bounding_box has {len(box)} numbers, not 4")
    points = np.array([_number(value, f"{name}'s landmarks") for value in item["landmarks"]], np.float64)
    if len(points) != 3 * count:
        raise ValueError(f"{name} is a {category} and has {len(points)} numbers of landmarks, not {3 * count}")
    points = points.reshape(-1, 3)
    if not np.isin(points[:, 2], tuple(VISIBILITIES)).all():
        raise ValueError(f"{name} has a landmark whose visibility is not 0, 1 or 2")
    rows = [_slot(points, slots.get(slot)) for slot in LANDMARK_NAMES]
    for number in range(len(rows)):
        if number not in SLOTS[clothes_type]:
            rows[number] = [ABSENT, 0, 0]
    return {"category": NAMES.index(category), "box": box, "landmarks": [clothes_type, *np.ravel(rows).tolist()]}


def _slot(points: np.ndarray[Any, np.dtype[np.float64]], numbers: Sequence[int] | None) -> list[float]:
    """Visibility, x and y of the mean of some landmarks; it is occluded if one of them is."""
    chosen = points[[number - 1 for number in numbers or ()]]
    if not numbers or (chosen[:, 2] == 0).any():
        return [UNLABELLED, 0, 0]
    return [VISIBILITIES[int(chosen[:, 2].min())], *chosen[:, :2].mean(axis=0).tolist()]


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{field} holds {value!r}, which is no number")
    return value
