"""The command line, one file a command: its arguments, one call, and how the result is shown. Wired together here."""

import logging
import sys
from typing import Annotated

import typer

from fashion_infer import __version__
from fashion_infer.cli import (
    bench,
    data,
    demo,
    doctor,
    evaluate,
    export,
    gallery,
    index,
    models,
    predict,
    search,
    train,
)
from fashion_infer.cli.shared import say
from fashion_infer.errors import FashionInferError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line; errors of ours become one line on stderr and their exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        app()
    except FashionInferError as error:
        say(error)
        sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Clothing category, attributes, landmarks and a retrieval embedding from one forward pass."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


app.command()(predict.predict)
app.command()(export.export)
app.command()(models.inspect)
app.command()(bench.bench)
app.command()(models.models)
app.command()(doctor.doctor)
app.command()(train.train)
app.command("eval")(evaluate.evaluate)
app.command()(demo.demo)
app.command()(index.index)
app.command()(search.search)
app.add_typer(gallery.app, name="gallery")
app.add_typer(data.app, name="data")
