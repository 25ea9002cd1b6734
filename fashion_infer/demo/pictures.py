"""The demo of the built-in model: in under a minute it predicts on pictures, searches a gallery and measures latency.

The pictures are rendered garments, real photos and, if there are any, the user's own. It needs neither torch nor a
network connection.
"""

from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from rich.console import Console

from fashion_infer.bench.environment import environment
from fashion_infer.bench.scenarios import quick
from fashion_infer.demo import report as demo_report
from fashion_infer.demo.report import REPORT, TITLE
from fashion_infer.demo.search import searches
from fashion_infer.errors import missing_extra
from fashion_infer.files import check_folder
from fashion_infer.inputs import expand_paths
from fashion_infer.model_spec import ModelSpec
from fashion_infer.models import BuiltIn, built_in
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.designs import CUTS
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM, Garment, render
from fashion_infer.web_page import paragraph, write_page

try:
    from skimage import data as photos_of_skimage
except ImportError as error:
    raise missing_extra(error.name or "scikit-image", "demo", error) from error

MODEL = "fashionnet-lite"
SEED, SIZE, SHOWN = 1_000_003, 512, 12  # seed (far from usual training seeds), side in pixels and number of pictures
WITHOUT_GARMENT = ("coffee", "chelsea", "rocket")  # pictures that come with scikit-image
BENCH_SECONDS = 10.0  # duration of the latency measurement


class Example(NamedTuple):
    """A rendered garment, the name of the category that it was drawn as, and the model's prediction for its box."""

    garment: Garment
    name: str
    prediction: Prediction


def run_demo(folder: Path, photos: Path | None, console: Console) -> Path:
    """Predict, search, measure latency, and write `report.html` into the folder.

    Args:
        folder: folder for the report; it is created if necessary, and other files in it are not touched.
        photos: folder of the user's own photos to predict on as well, or None.
        console: console on which progress is shown.

    Returns:
        The path of the report.

    Raises:
        OutputError: nothing can be written to the folder.
        ImageError: the folder of photos has no images.
        ModelError: the built-in model is damaged.
    """
    check_folder(folder)
    own = [] if photos is None else expand_paths([str(photos)])
    start = perf_counter()
    with Predictor(MODEL) as predictor:
        console.rule("1 of 4: predict on rendered garments")
        rendered = examples(predictor, SHOWN)
        console.rule("2 of 4: predict on photos")
        worn = predictor.predict(photos_of_skimage.astronaut())
        without_garment = predictor.predict([getattr(photos_of_skimage, name)() for name in WITHOUT_GARMENT])
        own_predictions = predictor.predict(list(own))
        console.rule("3 of 4: search in a gallery")
        search_section = searches(predictor, console)
        console.rule("4 of 4: measure latency")
        latency = quick(predictor, [to_jpeg(example.garment) for example in rendered], seconds=BENCH_SECONDS)
        predictions = [example.prediction for example in rendered]
        names = [f"drawn as {example.name}" for example in rendered]
        sections = [
            _introduction(built_in()[MODEL], predictor.spec, perf_counter() - start),
            *([demo_report.pictures("Your photos", own_predictions)] if own_predictions else []),
            demo_report.pictures("Rendered garments", predictions, names),
            demo_report.pictures("A worn garment: Eileen Collins in her flight suit (NASA, public domain)", [worn]),
            demo_report.pictures("Pictures without a garment, from scikit-image", without_garment, WITHOUT_GARMENT),
            search_section,
            demo_report.latency(latency),
            demo_report.machine(environment()),
        ]
    write_page(folder / REPORT, TITLE, sections)
    return folder / REPORT


def examples(predictor: Predictor, count: int) -> list[Example]:
    """Render `count` garments of the model's categories, of different ones if there are enough, and predict on them."""
    items = [item for item, name in enumerate(CUTS) if name in predictor.spec.categories]
    rendered: list[Example] = []
    for place in np.linspace(0, len(items) - 1, count).round().astype(int):
        garment = render(SEED, items[place] * VIEWS_PER_ITEM + len(rendered) % VIEWS_PER_ITEM, size=SIZE)
        prediction = predictor.predict(garment.image, boxes=[garment.box])[0]
        rendered.append(Example(garment, tuple(CUTS)[items[place]], prediction))
    return rendered


def _introduction(model: BuiltIn, spec: ModelSpec, seconds: float) -> str:
    return paragraph(
        f"{MODEL}: {model.about} {len(model.categories)} categories, {len(model.attributes)} attributes, "
        f"{len(spec.landmarks)} landmarks, {model.image_size} px, {model.bytes / 1e6:.1f} MB. This page took "
        f"{seconds:.0f} seconds on this machine, without torch and without a network. Rendered garments show how "
        "results look, not how good the model is; docs/model-card.md says how good it is.",
        lead=True,
    )
