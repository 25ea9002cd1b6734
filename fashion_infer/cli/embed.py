"""The command `fashion-infer embed`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashion_infer.cli.index import progress
from fashion_infer.cli.shared import Backend, Device, Json, Model, Threads, errors, out, say
from fashion_infer.errors import ImageError, UsageError
from fashion_infer.files import check_folder
from fashion_infer.images import MAX_PIXELS
from fashion_infer.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from fashion_infer.embed.chunks import Worker


def embed(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, glob patterns, addresses such as s3://bucket/folder, and .csv or .parquet files "
            "with a column path, perhaps a column id, and columns of your own."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the Parquet files.")],
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|ADDRESS",
            help="Distribute the work on a Ray cluster: a local one on this machine, or the one at ADDRESS. "
            "Its nodes need fashion-infer, the model and the photos at the same paths.",
        ),
    ] = None,
    as_json: Json = False,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
    max_batch: Annotated[int, typer.Option(help="Largest number of images in one batch.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Refuse images with more pixels.")] = MAX_PIXELS,
) -> None:
    """Write the embeddings of a catalogue of photos as Parquet, one file for each 1,000 inputs.

    Existing files are kept, so a run that was stopped continues when it is started again. The row of a photo that
    cannot be used holds its error, and the exit code is then 4. `index --from` imports the folder into a gallery.

    Examples:

        fashion-infer embed fashionnet-lite photos/ -o embeddings/

        fashion-infer embed fashionnet-lite products.csv -o products/ --ray local
    """
    from fashion_infer.embed.catalogue import read_catalogue
    from fashion_infer.embed.chunks import Terms, finished_chunks, write_chunks

    start = monotonic()
    with errors.status("listing the inputs"):
        catalogue = read_catalogue(inputs)
        terms = Terms.of(catalogue)
    for error in catalogue.errors.values():
        say(error)
    if not len(catalogue):
        raise UsageError(f"{', '.join(inputs)}: there is nothing to embed")
    settings = {
        "device": device,
        "backend": backend,
        "threads": threads,
        "max_batch": max_batch,
        "max_pixels": max_pixels,
    }
    with progress() as bar:
        task = bar.add_task("loading the model", total=None)
        with _worker(model, settings, ray, lambda rows: bar.advance(task, rows)) as worker:
            kept = finished_chunks(output, worker.facts, terms)
            failed = [failure for failures in kept.values() for failure in failures]
            missing = [number for number in range(catalogue.chunks) if number not in kept]
            if missing:
                check_folder(output)
            rows = len(catalogue) - sum(catalogue.rows_of(number) for number in missing)
            skipped = rows
            bar.remove_task(task)
            task = bar.add_task("embedding", total=len(catalogue), completed=rows)
            for count, failures in write_chunks(catalogue, output, missing, worker, terms):
                rows += count
                failed += failures
                bar.update(task, completed=rows)
    _show(output, rows, skipped, failed, monotonic() - start, catalogue.errors, as_json)


@contextmanager
def _worker(
    model: str, settings: dict[str, Any], address: str | None, advance: "Callable[[int], None]"
) -> "Iterator[Worker]":
    if address is not None:
        from fashion_infer.embed.cluster import Cluster

        with Cluster(model, settings, address) as cluster:
            yield cluster
        return
    from fashion_infer.embed.chunks import OneMachine

    with Predictor(model, **settings) as predictor:
        yield OneMachine(predictor, advance)


def _show(
    output: Path,
    rows: int,
    skipped: int,
    failed: list[tuple[str, str]],
    seconds: float,
    unusable: dict[str, ImageError],
    as_json: bool,
) -> None:
    """Print the result and the errors."""
    listed = [*((argument, str(error)) for argument, error in unusable.items()), *failed]
    if as_json:
        facts = {"rows": rows, "skipped": skipped, "seconds": seconds}
        typer.echo(json.dumps({**facts, "failed": [{"id": id, "error": error} for id, error in listed]}))
    else:
        before = f", {skipped} of them by an earlier run" if skipped else ""
        out.print(f"{rows} rows in {output}{before}; {seconds:.1f} s", soft_wrap=True)
    for _, text in failed:
        say(ImageError(text))
    if listed:
        raise ImageError(f"{len(listed)} of {rows + len(unusable)} inputs could not be used")
