"""What every command shares: its two consoles, and the options that several of them have."""

import os
from typing import Annotated

import typer
from rich.text import Text

from fashion_infer.errors import FashionInferError
from fashion_infer.models import built_in
from fashion_infer.text import UserConsole

out = UserConsole()
errors = UserConsole(stderr=True)

Place = Annotated[
    str, typer.Argument(help="Folder of the gallery, or http(s)://host:port/collection of a Qdrant cluster.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def _built_in_names(incomplete: str) -> list[str]:
    """What the shell completes a model's name to; where no name fits, it completes files."""
    return [name for name in built_in() if name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        help="A file that fashion-infer export wrote, or a name that fashion-infer models lists.",
        autocompletion=_built_in_names,
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu (the default), or cuda:0; nothing falls back to another.")]
Backend = Annotated[str | None, typer.Option(help="onnxruntime, openvino or tensorrt, where the file leaves a choice.")]
Highres = Annotated[
    bool | None, typer.Option(help="Whether the photos are the high-resolution ones; by default where only these are.")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of one batch; by default all cores for a lone image, one each under load.")
]


def say(error: FashionInferError) -> None:
    """Print an error on stderr."""
    errors.print(Text("error:", "red"), str(error), soft_wrap=True)


def hide_progress() -> None:
    """Let no bar or spinner appear on stderr, neither on our console nor on those that commands make."""
    errors.is_interactive = False
    os.environ["TTY_INTERACTIVE"] = "0"  # rich's name for it
