"""The command line: the program, its general options and its commands, each of which has a module of its own."""

import logging
import os
import sys
from io import TextIOWrapper
from typing import Annotated, cast

import typer

from fashion_infer import __version__
from fashion_infer.cli import (
    bench,
    data,
    demo,
    doctor,
    embed,
    evaluate,
    export,
    gallery,
    index,
    models,
    predict,
    search,
    serve,
    train,
)
from fashion_infer.cli.shared import hide_progress, say
from fashion_infer.errors import FashionInferError, OutputError, UsageError
from fashion_infer.text import shown

app = typer.Typer(name="fashion-infer", no_args_is_help=True, pretty_exceptions_enable=False)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's name
        return shown(super().formatMessage(record))


def main() -> None:
    """Run the command line; errors become one line on stderr and their exit code."""
    logs = logging.StreamHandler(sys.stderr)
    logs.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[logs])
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # print letters that the encoding lacks as escapes
            cast(TextIOWrapper, stream).reconfigure(errors="backslashreplace")
        try:
            app()
        finally:
            if sys.stdout is not None:  # None if it was closed
                sys.stdout.flush()  # raises OSError if the disk is full, which is reported below
    except FashionInferError as error:
        say(error)
        sys.exit(error.exit_code)
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):  # a closed pipe, such as that of `head`, is no error
            place = "" if error.filename is None else f"{error.filename}: "
            say(OutputError(f"{place}{error.strerror or error}"))
        sys.exit(OutputError.exit_code)


def _drop_output() -> None:
    """Discard further output, because Python would try to write it again at exit and print an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def options_of_all_commands(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print what is loaded and where it runs.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only: no warnings, no progress.")] = False,
) -> None:
    """Clothing category, attributes, landmarks and a retrieval embedding from one forward pass.

    Output has no colours if the environment variable NO_COLOR is set.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other: give one of them")
    if context.invoked_subcommand is None:
        raise UsageError("there is no command: fashion-infer --help lists them")
    logging.getLogger("fashion_infer").setLevel(logging.INFO if verbose else logging.NOTSET)
    if quiet:
        logging.getLogger().setLevel(logging.ERROR)
        hide_progress()


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
app.command()(embed.embed)
app.command()(serve.serve)
app.add_typer(gallery.app, name="gallery")
app.add_typer(data.app, name="data")
