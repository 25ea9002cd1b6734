"""A picture of the page of `fashion-infer serve`, with rendered garments: `python docs/serve.py docs/serve.jpg`.

It needs Playwright and a chromium (apt-get install chromium).
"""

import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

from fashion_infer import Gallery, Predictor
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM, render

MODEL = "fashionnet-lite"
SEED, SIZE, ITEMS = 1_000_003, 420, 72  # of the gallery; it is large enough for levels of match
QUERY = 8  # of the same renderer, from another view
WIDTH, HEIGHT = 1000, 1140  # of the window, pixels


def main(output: str) -> None:
    """Render the photos of a shop, serve them, and save a picture of the page."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "shop.gallery"
        garments = [render(SEED, number, size=SIZE) for number in range(ITEMS)]
        with Predictor(MODEL) as predictor, Gallery(place, predictor) as gallery:
            paths = [Path(folder) / f"garment {number:02}.jpg" for number in range(ITEMS)]
            for path, garment in zip(paths, garments, strict=True):
                path.write_bytes(to_jpeg(garment))
            numbers = [number for number in range(ITEMS) if number != QUERY]
            gallery.add(
                [paths[number] for number in numbers],
                ids=[paths[number].stem for number in numbers],
                payloads=[{"item": f"item {number // VIEWS_PER_ITEM:02}"} for number in numbers],
            )
        program = "from fashion_infer.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            program,
            "serve",
            MODEL,
            "--gallery",
            str(place),
            "--port",
            "0",
            "--max-wait-ms",
            "10000",
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            try:
                picture = photographed(json.loads(server.stderr.readline())["url"], paths[QUERY])
            finally:
                server.terminate()
    picture.convert("RGB").save(output, quality=80, optimize=True)


def photographed(url: str, photo: Path) -> Image.Image:
    """Return a picture of the page after a photo was chosen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(url)
        page.set_input_files("#file", photo)
        page.locator("#hits img").first.wait_for()
        for image in page.locator("#hits img").all():
            image.evaluate("image => image.decode()")
        shot = page.screenshot()
        browser.close()
    return Image.open(BytesIO(shot))


if __name__ == "__main__":
    main(sys.argv[1])
