"""Add a built-in model to the package: `python -m fashion_infer.export.built_in NAME MODEL --about "what it is"`."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import onnx
import typer

from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.evaluation.parity import check_parity, read_pictures
from fashion_infer.export.steps import write_onnx
from fashion_infer.files import sha256_of, write_atomically
from fashion_infer.model_spec import PARITY_KEY
from fashion_infer.models import LIST, BuiltIn, built_in
from fashion_infer.onnx_file import load_onnx, packed, precision_of, set_metadata

TOLERANCE = 0.01  # parity tolerance of an fp16 file, since the weights are rounded to float16 in the same way


def add_built_in(
    name: str, model: Path, about: str, photos: Path | None = None, licence: str = "Apache-2.0"
) -> BuiltIn:
    """Write a model file and its entry in the list of built-in models; fp32 weights are stored as float16.

    Args:
        name: The name that users will load the model by.
        model: A checkpoint, or an fp32 or int8 .onnx file of fashion-infer.
        about: A description of the model in one sentence.
        photos: A folder of pictures for the parity check; rendered garments when None.
        licence: Licence of the weights, an SPDX identifier.

    Returns:
        The entry in the list.

    Raises:
        FashionInferError: The model cannot be exported, see `write_onnx`.
        ParityError: Rounding the weights changes the outputs too much.
    """
    output = LIST.with_name(f"{name}.onnx")
    with TemporaryDirectory(prefix="fashion-infer-") as scratch:
        source = model if model.suffix == ".onnx" else write_onnx(model, Path(scratch) / "fp32.onnx", photos=photos)[0]
        whole, spec = load_onnx(source)
        if (precision := precision_of(whole)) == "fp32":
            expected = OnnxRuntimeBackend(source).run(images := read_pictures(photos, spec.image_size))

            def write(temporary: Path) -> None:
                small = packed(whole)
                onnx.save_model(small, temporary)  # the parity check reads the file
                set_metadata(small, PARITY_KEY, check_parity(temporary, images, expected, TOLERANCE).to_json())
                onnx.save_model(small, temporary)

            write_atomically(output, write)
        else:
            write_atomically(output, lambda temporary: temporary.write_bytes(source.read_bytes()))
    size, sha256 = output.stat().st_size, sha256_of(output)
    entry = BuiltIn(about, licence, precision, spec.image_size, spec.categories, spec.attributes, size, sha256)
    entries = {model_name: asdict(built) for model_name, built in (built_in() | {name: entry}).items()}
    write_atomically(LIST, lambda temporary: temporary.write_text(json.dumps(entries, indent=1) + "\n"))
    return entry


def main(
    name: Annotated[str, typer.Argument(help="The name that users will load the model by.")],
    model: Annotated[Path, typer.Argument(help="A checkpoint, or an fp32 or int8 .onnx file.")],
    about: Annotated[str, typer.Option(help="A description of the model in one sentence.")],
    photos: Annotated[Path | None, typer.Option(help="Folder of photos for the parity check.")] = None,
) -> None:
    """Add a built-in model to the package of this checkout."""
    entry = add_built_in(name, model, about, photos)
    typer.echo(f"{name}: {entry.precision}, {entry.bytes / 1e6:.2f} MB, sha256 {entry.sha256}")


if __name__ == "__main__":
    typer.run(main)
