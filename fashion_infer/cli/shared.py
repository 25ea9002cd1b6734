"""Consoles and options that several commands share."""

import os
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.text import Text

from fashion_infer.errors import FashionInferError, UsageError
from fashion_infer.models import built_in
from fashion_infer.text import UserConsole

out = UserConsole()
errors = UserConsole(stderr=True)

Place = Annotated[
    str, typer.Argument(help="Folder of the gallery, or http(s)://host:port/collection of a Qdrant cluster.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def _built_in_names(incomplete: str) -> list[str]:
    """The built-in names that the shell offers to complete; without a match it offers files."""
    return [name for name in built_in() if name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        help="A file that fashion-infer export wrote, or a name that fashion-infer models lists.",
        autocompletion=_built_in_names,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu (the default) or cuda:0; there is no fallback to another device.")
]
Backend = Annotated[
    str | None, typer.Option(help="onnxruntime, openvino or tensorrt; by default chosen for the file and the device.")
]
Highres = Annotated[
    bool | None, typer.Option(help="Whether to use the high-resolution photos; by default only if there are no others.")
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads per batch; by default all cores for a batch that runs alone, else one.")
]


def refuse_options(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options and arguments that would have no effect, so that none is ignored silently.

    Args:
        context: the command's context.
        names: names of the parameters of the command's function.
        why: end of the sentence that begins with the refused options.

    Raises:
        UsageError: one of them is on the command line.
    """
    sources = {name: context.get_parameter_source(name) for name in names}
    on_command_line = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if options := sorted(param.opts[-1] for param in context.command.params if param.name in on_command_line):
        raise UsageError(f"{', '.join(options)} {why}")


def say(error: FashionInferError) -> None:
    """Print an error on stderr."""
    errors.print(Text("error:", "red"), str(error), soft_wrap=True)


def hide_progress() -> None:
    """Hide all progress bars and spinners on stderr, also on consoles that commands create."""
    errors.is_interactive = False
    os.environ["TTY_INTERACTIVE"] = "0"  # the variable that rich reads
