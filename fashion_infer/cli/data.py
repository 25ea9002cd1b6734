"""The commands `fashion-infer data check` and `fashion-infer data synth`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fashion_infer.cli.shared import Highres, Json, errors, out

app = typer.Typer(no_args_is_help=True, help="Make and check data sets in DeepFashion's layout.")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of one benchmark, or of several.")],
    as_json: Json = False,
    images: Annotated[bool, typer.Option(help="Decode every image; the full set takes many minutes.")] = True,
    highres: Highres = None,
) -> None:
    """Report what is present, missing or broken in the data sets that eval and train read.

    These are DeepFashion's four benchmarks, DeepFashion2, and photos with a retrieval.csv. The exit code is 1 if
    something is wrong. A missing file that only limits what can be trained or judged is reported as a note.

    Examples:

        fashion-infer data check data

        fashion-infer data check data --no-images --json
    """
    from fashion_infer.data.deepfashion_check import check as check_folder

    report = check_folder(folder, images=images, progress=True, highres=highres)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        out.print(*report.lines(), sep="\n", soft_wrap=True)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def synth(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write; it gets one folder for each of the four benchmarks.")
    ],
    images: Annotated[int, typer.Option(help="Number of images to render.")] = 2000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same images.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 256,
) -> None:
    """Render garments with true labels in DeepFashion's own layout.

    Example:

        fashion-infer data synth garments --images 200
    """
    from fashion_infer.synthetic.dataset import write_dataset

    try:
        write_dataset(folder, images=images, seed=seed, size=size)
    except KeyboardInterrupt as stop:
        errors.print(f"stopped: nothing is left in {folder}")
        raise typer.Exit(130) from stop
