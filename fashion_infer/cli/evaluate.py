"""The command `fashion-infer eval`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.progress import track
from rich.table import Table

from fashion_infer.cli.shared import Backend, Device, Highres, Json, Threads, errors, out
from fashion_infer.data.benchmarks import READERS
from fashion_infer.errors import UsageError
from fashion_infer.evaluation.judging import WITH_SHOPS, FolderJudgement, Gallery, Judgement, Run, judge_folder
from fashion_infer.evaluation.protocols import Number
from fashion_infer.evaluation.views import ViewsJudgement, judge_views_folder
from fashion_infer.model_spec import ModelSpec
from fashion_infer.predictor import Predictor


def evaluate(
    model: Annotated[Path, typer.Argument(help="An exported model, a built-in name, or a checkpoint.")],
    data: Annotated[
        Path, typer.Option(help="Folder of one benchmark or of several; with --views also of other photos.")
    ],
    split: Annotated[
        str, typer.Option(help="Split to judge on; In-shop's test split is its queries and gallery.")
    ] = "test",
    benchmark: Annotated[
        str | None, typer.Option(help=f"Judge on this benchmark only: {', '.join(READERS)}; by default all.")
    ] = None,
    gallery: Annotated[
        str, typer.Option(help="Consumer-to-shop's gallery: shop photos of the test items (as published), or val+test.")
    ] = "test",
    highres: Highres = None,
    views: Annotated[
        bool, typer.Option("--views", help="Judge by changed views of photos, each of which must find its original.")
    ] = False,
    seed: Annotated[int, typer.Option(help="With --views: random seed.")] = 0,
    senders: Annotated[
        Path | None,
        typer.Option(help="With --views: CSV of image and sender; photos of one sender are not neighbours."),
    ] = None,
    as_json: Json = False,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
    batch_size: Annotated[int, typer.Option(help="Images through the network at once.")] = 32,
) -> None:
    """Measure a model by the paper's protocols. On the real DeepFashion the paper's numbers are shown as well.

    A benchmark that cannot be judged does not stop the others, but the exit code is then 1. docs/evaluation.md
    explains each number.

    Examples:

        fashion-infer eval fashionnet.onnx --data data

        fashion-infer eval run/model.safetensors --data data --benchmark in_shop --json

        fashion-infer eval fashionnet-lite --data photos --views
    """
    if gallery not in get_args(Gallery):
        raise UsageError(f"--gallery is {' or '.join(get_args(Gallery))}, got {gallery!r}")
    if gallery != "test" and (split != "test" or benchmark not in (None, *WITH_SHOPS)):
        raise UsageError("--gallery is of the test split of Consumer-to-shop: leave it or the other options out")
    if not views and (senders or seed):
        raise UsageError("--seed and --senders go with --views")
    if views and (gallery != "test" or highres is not None):
        raise UsageError("--gallery and --highres do not go with --views, which looks among all photos")
    progress = partial(track, description="judging", console=errors, transient=True)
    with _runner(model, device, backend, threads, batch_size) as (run, spec):
        settings: dict[str, Any] = {"benchmark": benchmark, "split": split, "batch_size": batch_size}
        judged: FolderJudgement[Judgement] | FolderJudgement[ViewsJudgement]
        if views:
            judged = judge_views_folder(run, spec, data, senders=senders, seed=seed, progress=progress, **settings)
        else:
            judged = judge_folder(
                run, spec, data, gallery=cast(Gallery, gallery), highres=highres, progress=progress, **settings
            )
    if as_json:
        typer.echo(json.dumps(judged.to_dict()))
    else:
        for name, judgement in judged.judgements.items():
            _print(name, judgement)
    for name, why in judged.failed.items():
        errors.print(f"{name} could not be judged: {why}", soft_wrap=True)
    if judged.failed:
        raise typer.Exit(1)


@contextmanager
def _runner(
    model: Path, device: str | None, backend: str | None, threads: int | None, batch_size: int
) -> Iterator[tuple[Run, ModelSpec]]:
    """Open a model and yield its `run` and spec: a checkpoint in torch, every other file in a Predictor."""
    if model.suffix != ".safetensors":
        with Predictor(model, device=device, backend=backend, threads=threads, max_batch=batch_size) as predictor:
            yield predictor.run, predictor.spec
        return
    if backend is not None or threads is not None:
        raise UsageError(f"{model} is a checkpoint, which torch runs: export it, or leave --backend and --threads out")
    from fashion_infer.training.checkpoint import load_checkpoint
    from fashion_infer.training.trainer import network_run

    network, spec = load_checkpoint(model)
    yield network_run(network, spec, device or "cpu"), spec


def _print(name: str, judgement: Judgement | ViewsJudgement) -> None:
    """Print a table of the measures, and remarks that a reader needs below it."""
    out.print(_views_table(name, judgement) if isinstance(judgement, ViewsJudgement) else _table(name, judgement))
    retrieval = judgement.evaluation.retrieval if isinstance(judgement, Judgement) else None
    if retrieval and (by_kind := retrieval.by_kind()):
        out.print(_kinds_table(by_kind))
    for what, names in judgement.remarks():
        out.print(f"{len(names)} {what}: {', '.join(names[:5])}", soft_wrap=True)


def _views_table(name: str, judgement: ViewsJudgement) -> Table:
    title = f"{name}: views of {judgement.queries} photos among {judgement.photos}"
    table = Table("measure", "value", title=title, title_justify="left")
    for measure, value in judgement.rows():
        table.add_row(measure, f"{value:.4f}")
    return table


def _kinds_table(by_kind: dict[str, dict[str, Number]]) -> Table:
    columns = next(iter(by_kind.values()))
    table = Table("kind of garment", *columns, title="retrieval by kind", title_justify="left")
    for kind, measures in by_kind.items():
        table.add_row(
            kind,
            *("" if v is None else f"{v:.4f}" if isinstance(v, float) else str(v) for v in measures.values()),
        )
    return table


def _table(name: str, judgement: Judgement) -> Table:
    table = Table("measure", "value", title=f"{name}, {judgement.images} images", title_justify="left")
    if judgement.published:
        table.add_column("FashionNet in the paper")
    for measure, value, published in judgement.rows():
        paper = ["" if published is None else f"{published:.4f}"] if judgement.published else []
        table.add_row(measure, f"{value:.4f}", *paper)
    return table
