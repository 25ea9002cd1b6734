"""Write worn garments in DeepFashion's layout: `python benchmarks/worn_photos.py CCP OUTPUT`.

CCP is a checkout of the public "Clothing Co-Parsing" set (W. Yang, P. Luo, L. Lin, CVPR 2014). Its repository states
the Apache License 2.0, but not the rights of its street photos. Of it the script reads `photos/0001.jpg`,
`annotations/pixel-level/0001.mat`, which labels each pixel, and `label_list.mat` with the names of the labels. OUTPUT
gets a crop of each garment of real_photos/worn_labels.csv, with faces and hair blurred, and the labels as `Anno_fine/`
and `Eval/`. As in `real_photos.py`, the labels were read from the crops against a percent grid; garments of the test
split were read twice, and their third row is the decision.
"""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from real_photos import HERE, labelled, write_annotations
from rich.progress import track
from scipy.io import loadmat

from fashion_infer.files import write_atomically

LABELS = HERE / "worn_labels.csv"
BESIDE, ABOVE = 0.18, 0.12  # margin of a crop on each side, in shares of the garment's width and height
LONGEST = 640  # longest side of a crop, pixels
QUALITY = 92  # JPEG quality of a crop
Bools = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


def main(source: Path, output: Path) -> None:
    """Cut out and label every garment; existing crops are kept.

    Raises:
        SystemExit: The checkout lacks a photo or its pixel labels, or these do not contain the garment.
    """
    with LABELS.open(encoding="utf-8") as file:
        last = {row["image"]: row for row in csv.DictReader(file)}  # a later reading decides
    names = [str(np.squeeze(name)) for name in np.squeeze(read(source, "label_list.mat")["label_list"])]
    rows = []
    for image, row in track(sorted(last.items()), "crops"):
        name = f"img/worn/{image}.jpg"
        target = output / "Img" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            content = cv2.imencode(".jpg", cut_out(source, image, names), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            write_atomically(target, lambda temporary, content=content: temporary.write_bytes(content.tobytes()))
        rows.append(labelled(row, name, target))
    write_annotations(output, rows)


def read(source: Path, name: str) -> dict[str, NDArray[np.generic]]:
    """Read the variables of a .mat file of the checkout; older copies keep these files in another folder."""
    for folder in (source, source / "annotations", source / "annotations" / "pixel-level"):
        if (folder / name).exists():
            variables: dict[str, NDArray[np.generic]] = loadmat(folder / name)
            return variables
    raise SystemExit(f"{source} has no {name}: give a checkout of the Clothing Co-Parsing set")


def cut_out(source: Path, image: str, names: list[str]) -> Pixels:
    """Cut out a garment's bounding box with a margin, faces and hair blurred: uint8 [H, W, 3] BGR."""
    number, tag = image.split("_")
    photo = cv2.imread(str(source / "photos" / f"{number}.jpg"))
    labels = np.asarray(read(source, f"{number}.mat")["groundtruth"])
    if photo is None or photo.shape[:2] != labels.shape:
        raise SystemExit(f"{source}: photos/{number}.jpg is missing, or is not as large as its pixel labels")
    if tag not in names or not (labels == names.index(tag)).any():
        raise SystemExit(f"{source}: {number}.mat shows no {tag}")
    x1, y1, x2, y2 = with_margin(labels == names.index(tag))
    hair, skin = (labels == names.index(part) for part in ("hair", "skin"))
    crop = hidden(photo, head(hair, skin))[y1:y2, x1:x2]
    scale = min(1.0, LONGEST / max(crop.shape[:2]))
    size = round(crop.shape[1] * scale), round(crop.shape[0] * scale)
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)


def with_margin(garment: Bools) -> tuple[int, int, int, int]:
    """Return the box x1 y1 x2 y2 around the garment's pixels with a margin, clipped to the photo."""
    rows, columns = np.flatnonzero(garment.any(1)), np.flatnonzero(garment.any(0))
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    beside, above = BESIDE * (right - left), ABOVE * (bottom - top)
    height, width = garment.shape
    return (
        max(0, round(left - beside)), max(0, round(top - above)),
        min(width, round(right + beside)), min(height, round(bottom + above)),
    )  # fmt: skip


def head(hair: Bools, skin: Bools) -> Bools:
    """Return the pixels of hair and face; face is skin within 1.2 hair widths below the hair's upper edge."""
    if not hair.any():
        return hair
    rows, columns = np.flatnonzero(hair.any(1)), np.flatnonzero(hair.any(0))
    face = np.zeros_like(skin)
    width = columns[-1] + 1 - columns[0]
    face[rows[0] : rows[0] + round(1.2 * width), columns[0] : columns[-1] + 1] = True
    return np.asarray(hair | (skin & face))


def hidden(photo: Pixels, part: Bools) -> Pixels:
    """Blur a part of a photo beyond recognition, with soft edges."""
    sigma = 0.03 * max(part.shape)
    mask = cv2.GaussianBlur(cv2.dilate(part.astype(np.float32), np.ones((5, 5))), (0, 0), 2.0)[..., None]
    return np.asarray(np.rint(photo * (1 - mask) + cv2.GaussianBlur(photo, (0, 0), sigma) * mask), np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
