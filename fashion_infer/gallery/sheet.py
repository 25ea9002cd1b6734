"""Contact sheets: small pictures with lines of text below them, for example queries and their hits."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fashion_infer.errors import ImageError, UsageError
from fashion_infer.files import check_place, write_atomically
from fashion_infer.gallery.hits import Hit, Hits
from fashion_infer.gallery.rows import path_of_text
from fashion_infer.images import ImageSource, read_image
from fashion_infer.preprocess import Box, crop
from fashion_infer.web_page import COLOURS

TILE, CAPTION, GAP = 192, 34, 8  # side of a picture, height of its text, and gap between tiles, pixels
WIDTH = 6  # most hits in a row
COLORS = {
    "likely": COLOURS["good"],
    "possible": COLOURS["fair"],
    "unlikely": COLOURS["poor"],
    None: COLOURS["ink"],
}
FRAME = 3  # width of the frame around the query, pixels
FORMATS = (".jpg", ".jpeg", ".png", ".webp")


def contact_sheet(queries: Sequence[ImageSource | None], results: Sequence[Hits]) -> Image.Image:
    """Draw queries and their hits.

    Args:
        queries: photo of each query; None for a query without a photo.
        results: hits of each query, in the same order.

    Returns:
        An RGB picture with a block of rows for each query, and the query itself at the left of its block.
    """
    blocks = [max(1, -(-len(hits) // WIDTH)) for hits in results]
    step = TILE + CAPTION + GAP
    columns = 1 + min(WIDTH, max((len(hits) for hits in results), default=0))
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, sum(blocks) * step + GAP), COLOURS["paper"])
    top = GAP
    for query, hits, rows in zip(queries, results, blocks, strict=True):
        caption = "query" if hits.error is None else str(hits.error)
        tile = None if query is None else _tile(query, hits.box)
        _draw(sheet, (GAP, top), tile, [caption, hits.category or ""], COLOURS["accent"])
        frame = (GAP - FRAME, top - FRAME, GAP + TILE + FRAME - 1, top + TILE + FRAME - 1)
        ImageDraw.Draw(sheet).rectangle(frame, outline=COLOURS["accent"], width=FRAME)
        for place, hit in enumerate(hits):
            x = GAP + (1 + place % WIDTH) * (TILE + GAP)
            _draw_hit(sheet, (x, top + place // WIDTH * step), hit)
        top += rows * step
    return sheet


def photo_sheet(photos: Sequence[tuple[ImageSource, Box | None, Sequence[str]]]) -> Image.Image:
    """Draw photos, `WIDTH` in a row.

    Args:
        photos: for each photo its source, its box in pixels (None for the whole photo), and two lines of text.

    Returns:
        An RGB picture.
    """
    step = TILE + CAPTION + GAP
    columns, rows = min(WIDTH, len(photos)), -(-len(photos) // WIDTH)
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * step + GAP), "white")
    for place, (source, box, lines) in enumerate(photos):
        corner = GAP + place % WIDTH * (TILE + GAP), GAP + place // WIDTH * step
        _draw(sheet, corner, _tile(source, box), lines, "black")
    return sheet


def save_sheet(path: Path, queries: Sequence[ImageSource | None], results: Sequence[Hits]) -> None:
    """Draw queries and their hits (see `contact_sheet`) and write the picture; the file's suffix decides the format.

    Raises:
        UsageError, OutputError: as for `check_sheet_place`.
    """
    check_sheet_place(path)
    sheet = contact_sheet(queries, results)
    kind = Image.registered_extensions()[path.suffix.lower()]
    write_atomically(path, lambda temporary: sheet.save(temporary, kind, quality=90))


def check_sheet_place(path: Path) -> None:
    """Check that a contact sheet may be written to a path; call this before the search.

    Raises:
        UsageError: the suffix is not in `FORMATS`.
        OutputError: the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a contact sheet is written as {', '.join(FORMATS)}")
    check_place(path)


def _draw_hit(sheet: Image.Image, corner: tuple[int, int], hit: Hit) -> None:
    views = f", {hit.views} views" if hit.views > 1 else ""
    lines = [f"{hit.score:.3f} {hit.match or ''}{views}", str(hit.item or hit.id)]
    tile = None if hit.image is None else _tile(path_of_text(hit.image), hit.payload["box"])
    _draw(sheet, corner, tile, lines, COLORS[hit.match])


def _tile(image: ImageSource, box: Box | None) -> Image.Image | None:
    """Return the picture of a box, scaled to fit into a tile, or None if the photo cannot be read."""
    try:
        picture = read_image(image, side=TILE, boxes=None if box is None else [box])
        cut = crop(picture, box, 2 * TILE)
    except ImageError:
        return None
    scale = TILE / max(cut.size)
    size = max(1, round(cut.size[0] * scale)), max(1, round(cut.size[1] * scale))
    return Image.fromarray(cut.pixels).resize(size, Image.Resampling.LANCZOS)


def _draw(
    sheet: Image.Image, corner: tuple[int, int], tile: Image.Image | None, lines: Sequence[str], color: str
) -> None:
    x, y = corner
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    pen.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=COLOURS["panel"])
    if tile is None:
        pen.text((x + 8, y + TILE // 2), "no picture", COLOURS["muted"], font)
    else:
        sheet.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
    for place, line in enumerate(lines):
        pen.text((x, y + TILE + 2 + 15 * place), _short(line, font), color, font)


def _short(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text to fit below a tile; its end is kept, because ids and paths differ at the end."""
    line = line.encode("ascii", "replace").decode()
    if font.getlength(line) <= TILE:
        return line
    while font.getlength("..." + line) > TILE:
        line = line[1:]
    return "..." + line
