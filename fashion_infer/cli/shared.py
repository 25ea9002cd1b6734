"""What every command shares: its two consoles, and the options that several of them have."""

from typing import Annotated

import typer
from rich.text import Text

from fashion_infer.errors import FashionInferError
from fashion_infer.text import UserConsole

out = UserConsole()
errors = UserConsole(stderr=True)

Place = Annotated[
    str, typer.Argument(help="Folder of the gallery, or http(s)://host:port/collection of a Qdrant cluster.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Model = Annotated[
    str, typer.Argument(help="A file that fashion-infer export wrote, or a name that fashion-infer models lists.")
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
