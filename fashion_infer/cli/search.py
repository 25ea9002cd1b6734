"""The command `fashion-infer search`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fashion_infer.cli.index import opened
from fashion_infer.cli.shared import Backend, Device, Json, Place, Threads, errors, out, refuse_options, say
from fashion_infer.errors import ImageError, UsageError
from fashion_infer.images import ImageSource
from fashion_infer.text import shown

if TYPE_CHECKING:
    from fashion_infer.gallery import Gallery, Hits
    from fashion_infer.gallery.gallery import SearchOptions


OF_PHOTOS = ("box", "model", "device", "backend", "threads")  # options that need a photo


def search(
    context: typer.Context,
    gallery: Place,
    images: Annotated[list[str] | None, typer.Argument(help="Photos to search by.")] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id of a row to search by, without a model.")] = None,
    box: Annotated[str | None, typer.Option(help="Box of the garment in the photo: x1,y1,x2,y2 in pixels.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Search once by all photos together; they show the same item.")
    ] = False,
    like: Annotated[list[str] | None, typer.Option(help="Id of a row that hits should be more like.")] = None,
    unlike: Annotated[list[str] | None, typer.Option(help="Id of a row that hits should be less like.")] = None,
    where: Annotated[
        str | None, typer.Option(help="A filter, such as 'price<=50 and category in (Dress, Skirt)'.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Number of hits for each query.")] = 10,
    offset: Annotated[int, typer.Option(help="Number of hits to skip, for paging.")] = 0,
    min_score: Annotated[float | None, typer.Option(help="Leave out hits with a lower score.")] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Show only the best row for each value of this column, such as item.")
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="From 0 (by similarity only) to 1 (as different from each other as possible).")
    ] = 0.0,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every row, even in a large gallery.")] = False,
    as_json: Json = False,
    only_paths: Annotated[bool, typer.Option("-f", "--files", help="Print only the paths of the hits.")] = False,
    save_vis: Annotated[Path | None, typer.Option(help="Picture file for a contact sheet of queries and hits.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The gallery's own model by default, or another with the same embedding space.")
    ] = None,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Find the garments in a gallery that are most similar to a photo. Exit code 4 if some photos could not be read.

    Examples:

        fashion-infer search shop.gallery photo.jpg --limit 5

        fashion-infer search shop.gallery photo.jpg --where 'price<=50 and category=Dress' --json

        fashion-infer search shop.gallery --id photos/dress.jpg --save-vis sheet.jpg
    """
    from fashion_infer.gallery import Gallery, search_to_dict

    if as_json and only_paths:
        raise UsageError("--json and --files are two formats: give one of them")
    if not images:
        refuse_options(context, OF_PHOTOS, "cannot be used without a photo")
    if save_vis is not None:
        _check_sheet(save_vis)
    options: SearchOptions = {
        "like": like or [],
        "unlike": unlike or [],
        "where": where,
        "limit": limit,
        "offset": offset,
        "min_score": min_score,
        "group_by": group_by,
        "diversity": diversity,
        "exact": exact,
        "together": together,
    }
    if not images:
        with Gallery(gallery) as reader:
            results, space = _as_list(reader.search(**(options | {"ids": ids or None}))), reader.facts.space
    else:
        settings = {"device": device, "backend": backend, "threads": threads}
        with opened(gallery, model, settings, create=False) as searcher:
            results, space = _by_photo(searcher, images, ids, box, options), searcher.facts.space
    if as_json:
        typer.echo(json.dumps(search_to_dict(results, space)))
    elif only_paths:
        for hits in results:
            for hit in hits:
                if hit.image is not None:
                    typer.echo(shown(hit.image) if sys.stdout.isatty() else hit.image)
    else:
        _show(results, [*(images or ids or ["like and unlike"])])
    if save_vis is not None:
        _save(save_vis, results, [] if together else list(images or []))
    _tell_of_errors(results)


def _by_photo(
    gallery: "Gallery", images: list[str], ids: list[str] | None, box: str | None, options: "SearchOptions"
) -> "list[Hits]":
    if ids:
        raise UsageError("give either photos or --id, not both")
    if box is None:
        return _as_list(gallery.search(list[ImageSource](images), **options))
    if len(images) > 1:
        raise UsageError("a box goes with one photo")
    try:
        x1, y1, x2, y2 = (float(edge) for edge in box.split(","))
    except ValueError as error:
        raise UsageError(f"{box!r} is no box: it is x1,y1,x2,y2") from error
    return [gallery.search(images[0], **(options | {"box": [x1, y1, x2, y2]}))]


def _as_list(results: Any) -> "list[Hits]":
    from fashion_infer.gallery import Hits

    return [results] if isinstance(results, Hits) else list(results)


def _show(results: "list[Hits]", queries: list[str]) -> None:
    for place, hits in enumerate(results):
        if hits.error is not None:
            continue
        table = Table("score", "match", "id", "category", "agrees in", "differs in")
        for hit in hits:
            views = f" ({hit.views} views)" if hit.views > 1 else ""
            cells = (
                f"{hit.score:.3f}",
                hit.match or "-",
                hit.id + views,
                hit.payload["category"],
                ", ".join(fact.partition(":")[0] for fact in hit.why["same"]),
                ", ".join(hit.why["differs"]),
            )
            table.add_row(*cells)
        name = queries[place] if len(results) == len(queries) else " and ".join(queries)
        out.print(f"{name}{f', {hits.category}' if hits.category else ''}", soft_wrap=True)
        out.print(table)
        how = "all compared" if hits.exact else "by the graph"
        dropped = f", {hits.dropped} below the score" if hits.dropped else ""
        out.print(f"{len(hits)} of {hits.searched} rows ({how}) in {hits.took_ms:.1f} ms{dropped}", soft_wrap=True)


def _check_sheet(path: Path) -> None:
    """Raise an error before the search if the contact sheet cannot be written."""
    from fashion_infer.gallery.sheet import check_sheet_place

    check_sheet_place(path)


def _save(path: Path, results: "list[Hits]", images: list[str]) -> None:
    from fashion_infer.gallery.sheet import save_sheet

    save_sheet(path, images if len(images) == len(results) else [None] * len(results), results)
    errors.print(f"{path} written", soft_wrap=True)


def _tell_of_errors(results: "list[Hits]") -> None:
    failed = [hits.error for hits in results if hits.error is not None]
    for error in failed:
        say(error)
    if failed:
        raise ImageError(f"{len(failed)} of {len(results)} queries could not be used")
