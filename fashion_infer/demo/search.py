"""The demo's searches in a gallery of rendered garments, with other pictures of the same garments as queries."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from fashion_infer.gallery import Gallery, Hits
from fashion_infer.gallery.sheet import contact_sheet
from fashion_infer.predictor import Predictor
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM, render
from fashion_infer.web_page import figure, section

ITEMS, SEED, SIZE = 40, 1_000_003, 256
QUERY = VIEWS_PER_ITEM - 1  # number of the view of each item that is left out of the gallery


def searches(predictor: Predictor, console: Console) -> str:
    """Index rendered garments, search three times, and return the results as a section of HTML."""
    with TemporaryDirectory(prefix="fashion-infer-") as scratch, Gallery(Path(scratch) / "g", predictor) as gallery:
        folder = Path(scratch) / "photos"
        folder.mkdir()
        paths, payloads = [], []
        for item in range(ITEMS):
            for view in range(VIEWS_PER_ITEM):
                path = folder / f"item{item:02}-{view}.jpg"
                path.write_bytes(to_jpeg(render(SEED, item * VIEWS_PER_ITEM + view, size=SIZE)))
                if view != QUERY:
                    paths.append(str(path))
                    payloads.append({"item": f"item{item:02}", "price": 10 + 7 * item % 90})
        report = gallery.add(paths, payloads=payloads)
        console.print(f"{report.added} rows in a gallery")
        query = [str(folder / f"item{item:02}-{QUERY}.jpg") for item in (3, 17)]
        results = [
            ("by a picture that is not in the gallery", query[0], gallery.search(query[0], limit=6)),
            ("one hit for each item", query[1], gallery.search(query[1], limit=6, group_by="item")),
            ("at a price of 50 or less", query[1], gallery.search(query[1], limit=6, where="price<=50")),
        ]
        return section("Searches in a gallery of rendered garments", *(_result_figure(*result) for result in results))


def _result_figure(title: str, query: str, hits: Hits) -> str:
    sheet = np.asarray(contact_sheet([query], [hits]))
    note = f"{title}: {len(hits)} of {hits.searched} rows in {hits.took_ms:.1f} ms"
    return figure(sheet, title, note)
