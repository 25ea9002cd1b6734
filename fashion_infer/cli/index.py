"""The command `fashion-infer index`."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fashion_infer.cli.shared import Backend, Device, Json, Place, Threads, errors, out, refuse_options, say
from fashion_infer.errors import FashionInferError, GalleryError, ImageError, UsageError
from fashion_infer.images import MAX_PIXELS
from fashion_infer.inputs import expand_inputs
from fashion_infer.predictor import Predictor

if TYPE_CHECKING:
    from fashion_infer.gallery import Gallery, Outcome

DEFAULT_MODEL = "fashionnet-lite"
OF_IMPORTS = {"gallery", "source", "as_json"}  # options that --from uses
SHOWN = 10  # names printed of a longer list


def index(
    context: typer.Context,
    gallery: Place,
    inputs: Annotated[list[str] | None, typer.Argument(help="Images, folders or glob patterns.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The gallery's own model by default; fashionnet-lite for a new gallery."),
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file with your own columns, joined by its column path or id.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Import rows with their embeddings from a Parquet file or folder.")
    ] = None,
    rebuild: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compute every embedding, category and colour again with this model."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove rows whose photo is no longer in the folders.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the expected work; change nothing.")] = False,
    as_json: Json = False,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
    max_batch: Annotated[int, typer.Option(help="Largest number of images in one batch.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Refuse images with more pixels.")] = MAX_PIXELS,
) -> None:
    """Add photos to a gallery, or update it. Unchanged photos are skipped, so a killed run can be started again.

    The exit code is 4 if some photos could not be used; the others are indexed.

    Examples:

        fashion-infer index shop.gallery photos/

        fashion-infer index shop.gallery photos/ --metadata products.csv --prune

        fashion-infer index other.gallery --from embeddings.parquet

        fashion-infer index shop.gallery --rebuild fashionnet.onnx
    """
    chosen = [name for name, value in (("--from", source), ("--rebuild", rebuild), ("INPUTS", inputs)) if value]
    if len(chosen) != 1:
        raise UsageError(f"give photos, --from or --rebuild, one of them; got {' and '.join(chosen) or 'none'}")
    settings: dict[str, Any] = {
        "device": device,
        "backend": backend,
        "threads": threads,
        "max_batch": max_batch,
        "max_pixels": max_pixels,
    }
    if source is not None:
        refuse_options(context, context.params.keys() - OF_IMPORTS, "cannot be used with --from, which needs no model")
        result = _take(gallery, source)
    elif rebuild is not None:
        refuse_options(context, ("model", "metadata"), "cannot be used with --rebuild")
        result = _rebuild(gallery, rebuild, settings, prune=prune, dry_run=dry_run)
    else:
        result = _add(gallery, inputs or [], model, metadata, settings, prune=prune, dry_run=dry_run)
    result.show(as_json)
    if result.failed:
        raise ImageError(f"{len(result.failed)} of {sum(result.counts.values())} could not be used")


@dataclass
class _Result:
    """The result of a run, printed as text or JSON.

    Attributes:
        rows: number of rows in the gallery after the run.
        counts: number of photos by outcome; in a dry run the expected numbers.
        seconds: duration of the run; in a dry run the expected duration.
        failed: id and error message of each photo that could not be used.
        vanished: paths of rows whose photo no longer exists; in a dry run also of those that were renamed.
        renamed: old and new path of each renamed photo.
        pruned: number of rows removed because their photo was renamed or no longer exists.
        dry: whether this was a dry run.
    """

    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    pruned: int = 0
    dry: bool = False

    def note(self, outcome: "Outcome") -> None:
        """Count an outcome, and tell of one that failed."""
        if outcome.error is not None:
            self.fail(outcome.id, outcome.error)
        else:
            self.counts[outcome.status] += 1

    def fail(self, name: str, error: FashionInferError) -> None:
        """Count and print a garment or an argument that could not be used."""
        self.counts["failed"] += 1
        self.failed.append((name, str(error)))
        say(error)

    def show(self, as_json: bool) -> None:
        """Print the result."""
        if as_json:
            facts = {**vars(self), "failed": [{"id": id, "error": error} for id, error in self.failed]}
            typer.echo(json.dumps(facts))
            return
        words = ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "nothing to do"
        if self.dry:
            out.print(f"would be done: {words}; about {self.seconds / 60:.1f} minutes", soft_wrap=True)
        else:
            out.print(f"{words}; {self.rows} rows, {self.seconds:.1f} s", soft_wrap=True)
        for what, names in (
            ("photos have another name now", [f"{old} -> {new}" for old, new in self.renamed]),
            ("photos are gone", self.vanished),
        ):
            if names:
                hint = "" if self.pruned else " (--prune removes their old rows)"
                out.print(
                    f"{len(names)} {what}{hint}: {', '.join(names[:SHOWN])}{' ...' * (len(names) > SHOWN)}",
                    soft_wrap=True,
                )


def _add(
    place: str,
    inputs: list[str],
    model: str | None,
    table: Path | None,
    settings: dict[str, Any],
    *,
    prune: bool,
    dry_run: bool,
) -> _Result:
    from fashion_infer.gallery.metadata import Metadata

    expanded = expand_inputs(inputs)
    paths = list(dict.fromkeys(expanded.paths))
    metadata = None if table is None else Metadata(table)
    payloads = None if metadata is None else map(metadata.columns_of, paths)
    with opened(place, model, settings) as gallery:
        result, start = _Result(dry=dry_run), monotonic()
        for argument, error in expanded.errors.items():
            result.fail(argument, error)
        if dry_run:
            counts, result.seconds = gallery.estimate(paths, payloads=payloads)
            result.counts += counts
            result.rows = len(gallery)
            _find_gone(gallery, inputs, result, prune=False)
            return result
        with progress() as bar, closing(gallery.adding(paths, payloads=payloads)) as outcomes:
            task = bar.add_task("indexing", total=len(paths))
            for outcome in outcomes:
                result.note(outcome)
                bar.advance(task)
        _finish_index(gallery)
        _find_gone(gallery, inputs, result, prune=prune)
        result.rows, result.seconds = len(gallery), monotonic() - start
    if metadata is not None and metadata.unused:
        example = f": it has {min(metadata.unused)}, and the first photo is {paths[0]}" if paths else ""
        errors.print(
            f"{len(metadata.unused)} rows of {table} match no photo by {metadata.key}{example}",
            soft_wrap=True,
        )
    return result


def _take(place: str, source: Path) -> _Result:
    from fashion_infer.gallery import Gallery

    result, start = _Result(), monotonic()
    with progress() as bar, closing(Gallery.taking(place, source)) as outcomes:
        task = bar.add_task("taking rows", total=None)
        for outcome in outcomes:
            result.note(outcome)
            bar.advance(task)
    with Gallery(place) as gallery:
        result.rows, result.seconds = len(gallery), monotonic() - start
    return result


def _rebuild(place: str, model: str, settings: dict[str, Any], *, prune: bool, dry_run: bool) -> _Result:
    from fashion_infer.gallery import Gallery

    with Predictor(model, **settings) as predictor, Gallery(place) as gallery:
        missing, seconds = gallery.price_of_rebuild(predictor)
        errors.print(
            f"{missing} of {len(gallery)} rows are to be computed, about {seconds / 60:.1f} minutes", soft_wrap=True
        )
        if dry_run:
            return _Result(len(gallery), Counter({"replaced": missing}), seconds, dry=True)
        result, start = _Result(), monotonic()
        with progress() as bar, closing(gallery.rebuilding(predictor, prune=prune)) as outcomes:
            task = bar.add_task("rebuilding", total=missing)
            for outcome in outcomes:
                result.note(outcome)
                bar.advance(task)
        _finish_index(gallery)
        result.rows, result.seconds = len(gallery), monotonic() - start
        return result


@contextmanager
def opened(place: str, model: str | None, settings: dict[str, Any], *, create: bool = True) -> "Iterator[Gallery]":
    """Open a gallery with a Predictor: of the named model, of the gallery's own model, or of the built-in one."""
    from fashion_infer.gallery import Gallery

    if model is None:
        try:
            with Gallery(place) as reader:
                model = reader.facts.model
        except GalleryError:
            if not create:
                raise
            model = DEFAULT_MODEL  # a new gallery; any other fault raises an error below
    with Predictor(model, **settings) as predictor, Gallery(place, predictor, create=create) as gallery:
        yield gallery


def progress() -> Progress:
    """A progress bar on stderr with the finished work and the remaining time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_interactive)


def _finish_index(gallery: "Gallery") -> None:
    """Wait for the search graph, which takes minutes for a large gallery."""
    with progress() as bar:
        tasks: list[TaskID] = []

        def report(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bar.add_task("building the index", total=total))
            bar.update(tasks[0], completed=done)

        gallery.settle(report)


def _find_gone(gallery: "Gallery", inputs: list[str], result: _Result, *, prune: bool) -> None:
    gone = gallery.gone([folder for folder in inputs if Path(folder).is_dir()])
    result.renamed = [(row.path, row.now) for row in gone if row.now is not None]
    result.vanished = [row.path for row in gone if row.now is None]
    if prune and gone:
        result.pruned = gallery.remove([row.id for row in gone])
