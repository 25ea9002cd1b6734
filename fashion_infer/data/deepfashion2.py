"""DeepFashion2 (Ge et al., CVPR 2019), read from its download into a FashionData: one row a garment.

A folder holds `train/` and `validation/`, each with `image/000001.jpg` and `annos/000001.json`; the labels of the test
set are not public. Of each garment the box, one of 13 categories and its landmarks are read, and which garments are the
same item: the layout is that of the data set's own readme (github.com/switchablenorms/DeepFashion2).

A garment of style 1 or more is an item for retrieval, together with those of the same style on photos of the same
pair; consumers' photos are looked up among the shops'.
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

FOLDERS = {"train": "train", "validation": "val"}  # -> the split's name
DOMAINS = {"shop": SHOP, "user": CONSUMER}
VISIBILITIES = {2: 0, 1: 1, 0: UNLABELLED}  # visible and occluded; 0 says that nobody labelled it
UPPER, LOWER, FULL = 1, 2, 3

Points = tuple[int, ...]  # landmarks, counted from 1 as in the readme's figure; a slot lies in the middle of them
Slots = dict[str, Points]


def _slots(**points: tuple[Points, Points]) -> Slots:
    """Left and right of each named pair of landmarks."""
    return {
        f"{side}_{name}": own
        for name, both in points.items()
        for side, own in zip(("left", "right"), both, strict=True)
    }


# Category -> clothes type, number of landmarks, and which of them fill our slots. What the numbers mean is drawn in
# figure 2 of the readme; as text, the outline's order follows from which two mirror each other (the flip pairs of
# github.com/svip-lab/HRNet-for-Fashion-Landmark-Estimation.PyTorch). A sleeve's slot is the middle of its cuff, the hem
# of trousers the middle of a leg's opening. Slots of the clothes type that are not here are left unlabelled, since none
# of these landmarks is certain to be it: the waist of dresses, the shoulder of sleeveless garments, and the collar of
# short sleeve outwear, of which the sources disagree.
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

Report = Callable[[Path, str], None]  # file, what is wrong with it


def fail(path: Path, message: str) -> None:
    """The Report of a reader: the first malformed file ends it."""
    raise DataError(f"{path}: {message}")


def read_deepfashion2(root: Path, *, highres: bool | None = None) -> FashionData:
    """Reads DeepFashion2: as many rows an image as it has garments.

    Args:
        root: the folder of `train/` and `validation/`; one of them is enough.
        highres: must not be True: there is one size of photos.

    Raises:
        DataError: there is no annotation, a file is malformed, or high-resolution photos were asked for.
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
    """Every garment of every annotation file, in the order of the files' names; malformed files go to `report`."""
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
    """Category, box and landmarks (clothes type, then 8 slots of visibility, x, y) of one garment."""
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


def _slot(points: np.ndarray[Any, np.dtype[np.float64]], which: Sequence[int] | None) -> list[float]:
    """Visibility, x and y of the middle of some landmarks, which is as hidden as the most hidden of them."""
    chosen = points[[number - 1 for number in which or ()]]
    if not which or (chosen[:, 2] == 0).any():
        return [UNLABELLED, 0, 0]
    return [VISIBILITIES[int(chosen[:, 2].min())], *chosen[:, :2].mean(axis=0).tolist()]


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{what} holds {value!r}, which is no number")
    return value
