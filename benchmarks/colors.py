"""Measure how often the colours of rendered garments get the right names, and how long that takes.

    python benchmarks/colors.py [--images 2000] [-o benchmarks/results/colors.json]

`fashionnet-lite` predicts each garment in its box; its own landmarks say where the garment is. The renderer's shop
views are evenly lit. Its consumers' views have coloured, uneven light, noise and obstacles in front of the garment; the
right colour is nevertheless that of the cloth. A colour is right if it has the name of the cloth's base colour:

- `first`: the first colour is right.
- `near`: the first colour is right, or has the name that is the second nearest to the base colour.
- `any`: one of the colours is right.
- `both`: the base and the second colour of a pattern are among the colours; only patterns with two names count.

A garment is plain if its texture is "solid"; trims, buttons and pockets may still have other colours.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fashion_infer import Predictor
from fashion_infer.bench.environment import environment, provenance
from fashion_infer.colors import dominant_colors, nearest_names
from fashion_infer.files import write_atomically
from fashion_infer.images import read_image
from fashion_infer.preprocess import crop
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM, View, item_design, render

MODEL = "fashionnet-lite"
SEED, SIZE = 1_000_019, 512  # not the seed of any training set
SHOP, CONSUMER = 0, 2  # one picture of each view for every item
RESULTS = Path(__file__).parent / "results" / "colors.json"
TIMED = 300  # garments


def judged(predictor: Predictor, index: int) -> tuple[View, bool, dict[str, bool]]:
    """Predict a rendered garment.

    Returns:
        Its view, whether it is plain, and whether each measure counts it as right.
    """
    garment = render(SEED, index, size=SIZE)
    design, _ = item_design(SEED, garment.item)
    (prediction,) = predictor.predict(garment.image, boxes=[garment.box])
    names = [color.name for color in prediction.colors or ()]
    base, *others = nearest_names(design.base)
    second = nearest_names(design.second)[0]
    first = names[0] if names else None
    right = {"first": first == base, "near": first in (base, others[0]), "any": base in names}
    plain = design.texture == "solid"
    if not plain and second != base:
        right["both"] = {base, second} <= set(names)
    return garment.view, plain, right


def milliseconds(predictor: Predictor, count: int) -> float:
    """The median duration of `dominant_colors` for one garment, on one thread, with the landmarks of the model."""
    size, durations = predictor.spec.image_size, []
    for index in range(count):
        garment = render(SEED, index, size=SIZE)
        pixels = crop(read_image(garment.image), garment.box, size).pixels
        outputs = predictor.run(pixels[None])
        start = perf_counter()
        dominant_colors(pixels, outputs["landmarks"][0], outputs["visibility"][0])
        durations.append((perf_counter() - start) * 1e3)
    return median(durations)


def measured(predictor: Predictor, images: int) -> list[dict[str, Any]]:
    """Predict `images` garments; return a row of counts and shares for each view, plain and patterned."""
    hits: dict[tuple[View, bool], list[dict[str, bool]]] = defaultdict(list)
    for number in track(range(images), "predicting"):
        item, other = divmod(number, 2)
        view, plain, right = judged(predictor, item * VIEWS_PER_ITEM + (CONSUMER if other else SHOP))
        hits[view, plain].append(right)
    rows = []
    for (view, plain), all_right in sorted(hits.items(), key=lambda pair: (pair[0][0] != "shop", not pair[0][1])):
        shares = {
            name: mean(right[name] for right in all_right if name in right)
            for name in ("first", "near", "any", "both")
            if any(name in right for right in all_right)
        }
        rows.append({"view": view, "texture": "plain" if plain else "patterned", "garments": len(all_right), **shares})
    return rows


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="number of rendered pictures")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="JSON file with the results")
    arguments = parser.parse_args()
    facts = {"provenance": provenance(), "environment": environment(), "model": MODEL, "images": arguments.images}
    with Predictor(MODEL) as predictor:
        rows = measured(predictor, arguments.images)
        took = milliseconds(predictor, min(TIMED, arguments.images))
    table = Table("view", "texture", "garments", "first", "near", "any", "both")
    for row in rows:
        shares = (f"{row[name]:.1%}" if name in row else "" for name in ("first", "near", "any", "both"))
        table.add_row(row["view"], row["texture"], str(row["garments"]), *shares)
    Console().print(table, f"{took:.3f} ms for one garment (median)")
    text = json.dumps({**facts, "milliseconds": took, "rows": rows}, indent=1) + "\n"
    write_atomically(arguments.output, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
