"""Make JPEGs of 0.3, 2 and 12 megapixels, like those of a phone, from real garment photos.

The photos are enlarged and given sensor-like noise, so that the files are as large as a phone's (about 0.27 bytes per
pixel) and take as long to decode. The pictures are not kept in the repository.

    python benchmarks/photos.py PHOTOS OUTPUT
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZES = {"0.3MP": (480, 640), "2MP": (1224, 1632), "12MP": (3000, 4000)}  # width and height, upright
COUNT = 8  # of each size
QUALITY = 95
NOISE = 4.0  # standard deviation in the highlights, grey levels


def make_photos(source: Path, output: Path) -> dict[str, list[Path]]:
    """Write COUNT JPEGs of each size, from photos spread evenly over all those below `source`.

    Files that exist already are kept.

    Returns:
        The paths by name of the size.
    """
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(photos) < COUNT:
        raise SystemExit(f"{source} holds {len(photos)} JPEGs, {COUNT} are needed: give a folder of garment photos")
    chosen = [photos[i * len(photos) // COUNT] for i in range(COUNT)]
    paths: dict[str, list[Path]] = {}
    for name, size in SIZES.items():
        paths[name] = [output / name / f"{index}.jpg" for index in range(COUNT)]
        for index, (photo, path) in enumerate(zip(chosen, paths[name], strict=True)):
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = enlarge(cv2.imread(str(photo)), size, np.random.default_rng(index))
                cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def enlarge(pixels: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Resize a picture, uint8 [H, W, 3], to `size` (width, height), upright, and add sensor-like noise.

    As with a sensor, the noise grows with the square root of the brightness.
    """
    if pixels.shape[1] > pixels.shape[0]:
        pixels = np.ascontiguousarray(np.rot90(pixels))
    shrinks = size[0] < pixels.shape[1]
    large = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC).astype(np.float32)
    noise = rng.standard_normal(large.shape, np.float32) * NOISE * np.sqrt(0.3 + large / 255)
    return (large + noise).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    for files in make_photos(Path(sys.argv[1]), Path(sys.argv[2])).values():
        print(files[0].parent, f"{np.mean([file.stat().st_size for file in files]) / 1e6:.2f} MB each")
