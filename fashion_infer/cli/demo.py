"""The command `fashion-infer demo`."""

from pathlib import Path
from typing import Annotated

import typer

from fashion_infer.cli.shared import out


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for report.html, and with --train for the model.")
    ] = Path("demo"),
    photos: Annotated[Path | None, typer.Option(help="Folder of your own photos to predict on too.")] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="Show the whole chain in minutes: render, train, export, verify, predict, time."),
    ] = False,
) -> None:
    """Write a report that shows the built-in model's predictions and speed; it takes less than a minute.

    This needs the extra demo (scikit-image, for its photos), and with --train the extra train as well.

    Examples:

        fashion-infer demo --photos photos/

        fashion-infer demo --train
    """
    if train:
        from fashion_infer.demo.training import run_training_demo as run
    else:
        from fashion_infer.demo.pictures import run_demo as run

    report = run(output, photos, out)
    out.print(f"open {report}", soft_wrap=True)
