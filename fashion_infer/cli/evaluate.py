"""The command `fashion-infer eval`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from fashion_infer.cli.shared import Backend, Device, Json, Threads, errors, out
from fashion_infer.errors import UsageError
from fashion_infer.evaluation.judging import Judgement, Run, judge_folder
from fashion_infer.model_spec import ModelSpec
from fashion_infer.predictor import Predictor


def evaluate(
    model: Annotated[Path, typer.Argument(help="An exported model, a built-in name, or a checkpoint.")],
    data: Annotated[Path, typer.Option(help="Folder of one of DeepFashion's benchmarks, or of several.")],
    split: Annotated[str, typer.Option(help="Of the images; In-shop's test are its queries and gallery.")] = "test",
    benchmark: Annotated[
        str | None,
        typer.Option(help="category, category_fine, in_shop, consumer_to_shop or landmarks; all by default."),
    ] = None,
    as_json: Json = False,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
    batch_size: Annotated[int, typer.Option(help="Images through the network at once.")] = 32,
) -> None:
    """Measure a model by the paper's protocols; the paper's own numbers stand beside them on the real DeepFashion only.

    Examples:

        fashion-infer eval fashionnet.onnx --data data

        fashion-infer eval run/model.safetensors --data data --benchmark in_shop --json
    """
    progress = partial(track, description="judging", console=errors, transient=True)
    with _runner(model, device, backend, threads, batch_size) as (run, spec):
        judgements = judge_folder(
            run, spec, data, benchmark=benchmark, split=split, batch_size=batch_size, progress=progress
        )
    if as_json:
        typer.echo(json.dumps({name: judgement.to_dict() for name, judgement in judgements.items()}))
        return
    for name, judgement in judgements.items():
        out.print(_judgement_table(name, judgement))
        for what, names in judgement.remarks():
            out.print(f"{len(names)} {what}: {', '.join(names[:5])}", soft_wrap=True, markup=False)


@contextmanager
def _runner(
    model: Path, device: str | None, backend: str | None, threads: int | None, batch_size: int
) -> Iterator[tuple[Run, ModelSpec]]:
    """A model's `run` and spec: of a checkpoint by torch, of anything else by a Predictor."""
    if model.suffix != ".safetensors":
        with Predictor(model, device=device, backend=backend, threads=threads, max_batch=batch_size) as predictor:
            yield predictor.run, predictor.spec
        return
    if backend is not None:
        raise UsageError(f"{model} is a checkpoint, which torch runs: export it, or leave --backend out")
    from fashion_infer.training.checkpoint import load_checkpoint
    from fashion_infer.training.trainer import network_run

    network, spec = load_checkpoint(model)
    yield network_run(network, spec, device or "cpu"), spec


def _judgement_table(name: str, judgement: Judgement) -> Table:
    table = Table("measure", "value", title=f"{name}, {judgement.images} images", title_justify="left")
    if judgement.published:
        table.add_column("FashionNet in the paper")
    for measure, value, published in judgement.rows():
        paper = ["" if published is None else f"{published:.4f}"] if judgement.published else []
        table.add_row(measure, f"{value:.4f}", *paper)
    return table
