"""The commands `fashion-infer gallery info`, `remove`, `export` and `duplicates`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.pretty import pprint

from fashion_infer.cli.index import progress
from fashion_infer.cli.shared import Json, Place, out
from fashion_infer.errors import GalleryError

app = typer.Typer(no_args_is_help=True, help="Inspect or export a gallery, remove rows, find duplicates.")

WORDS = {"file": "same file", "photo": "same photo, encoded again", "item": "likely the same item"}


@app.command()
def info(
    gallery: Place,
    check: Annotated[bool, typer.Option("--check", help="Check for damage; exit code 3 if there is any.")] = False,
    as_json: Json = False,
) -> None:
    """Show the contents and the model of a gallery, and with --check whether it is damaged.

    Example:

        fashion-infer gallery info shop.gallery --check
    """
    from fashion_infer.gallery import Gallery

    with Gallery(gallery) as opened:
        facts = opened.info()
        problems, recall = opened.check() if check else ([], None)
    if check:
        facts |= {"check": {"wrong": problems, "recall_at_10": recall}}
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        pprint(facts, console=out, expand_all=True, indent_guides=False)
    if problems:
        raise GalleryError(f"gallery {gallery} is damaged: {'; '.join(problems)}")


@app.command()
def remove(
    gallery: Place,
    ids: Annotated[list[str], typer.Argument(help="Ids of the rows to remove.")],
    as_json: Json = False,
) -> None:
    """Remove rows by their ids.

    Example:

        fashion-infer gallery remove shop.gallery photos/dress.jpg
    """
    from fashion_infer.gallery import Gallery

    with Gallery(gallery) as opened:
        count = opened.remove(ids)
        remaining = len(opened)
    if as_json:
        typer.echo(json.dumps({"removed": count, "rows": remaining}))
    else:
        out.print(f"{count} removed, {remaining} rows are left", soft_wrap=True)


@app.command()
def export(
    gallery: Place,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .parquet file to write.")],
    as_json: Json = False,
) -> None:
    """Write every row with its embedding to Parquet, which `index --from` and other tools read.

    Example:

        fashion-infer gallery export shop.gallery -o embeddings.parquet
    """
    from fashion_infer.gallery import Gallery

    with Gallery(gallery) as opened:
        count = opened.export(output)
    if as_json:
        typer.echo(json.dumps({"rows": count, "file": str(output)}))
    else:
        out.print(f"{count} rows in {output} ({output.stat().st_size / 2**20:.1f} MiB)", soft_wrap=True)


@app.command()
def duplicates(gallery: Place, as_json: Json = False) -> None:
    """List rows that show the same file, the same photo encoded again, or likely the same item; none is removed.

    Example:

        fashion-infer gallery duplicates shop.gallery --json
    """
    from fashion_infer.gallery import Gallery

    with Gallery(gallery) as opened, progress() as bar:
        task = bar.add_task("comparing", total=len(opened))
        pairs = list(opened.duplicates(lambda done: bar.update(task, completed=done)))
    for pair in pairs:
        if as_json:
            facts = {"kind": pair.kind, "ids": [pair.first.id, pair.second.id], "score": round(pair.score, 6)}
            typer.echo(json.dumps(facts))
        else:
            out.print(f"{WORDS[pair.kind]} ({pair.score:.3f}): {pair.first.id} and {pair.second.id}", soft_wrap=True)
    if not pairs and not as_json:
        out.print("no duplicates", soft_wrap=True)
