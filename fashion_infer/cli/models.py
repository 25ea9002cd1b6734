"""The commands `fashion-infer inspect` and `fashion-infer models`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.pretty import pprint
from rich.table import Column, Table

from fashion_infer.cli.shared import Json, out
from fashion_infer.models import built_in, find_model


def inspect(
    file: Annotated[str, typer.Argument(help="An .onnx file, a .plan, a checkpoint, or a built-in name.")],
    as_json: Json = False,
) -> None:
    """Show the labels, operator sets, sizes, hashes and parity of a model file.

    Example:

        fashion-infer inspect fashionnet.onnx
    """
    from fashion_infer.export.inspect import inspect_file

    facts = inspect_file(find_model(file))
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        pprint(facts, console=out, expand_all=True, max_length=20, indent_guides=False)


def models(as_json: Json = False) -> None:
    """List the built-in models.

    Example:

        fashion-infer models
    """
    available = built_in()
    if as_json:
        typer.echo(json.dumps({name: asdict(model) for name, model in available.items()}))
        return
    table = Table(Column("name", no_wrap=True), "what it is", "file")
    for name, model in available.items():
        description = f"{model.about} {len(model.categories)} categories, {len(model.attributes)} attributes."
        facts = (model.precision, f"{model.image_size} px", f"{model.bytes / 1e6:.1f} MB", model.licence)
        table.add_row(name, description, f"{', '.join(facts)}, sha256 {model.sha256[:12]}")
    out.print(table)
