"""Put a model into the package: `python -m fashion_infer.export.built_in NAME MODEL --about "what it is"`."""

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

TOLERANCE = 0.01  # of every output: that of an fp16 file, of which the weights are rounded as here


def add_built_in(
    name: str, model: Path, about: str, photos: Path | None = None, licence: str = "Apache-2.0"
) -> BuiltIn:
    """Write a model and what is known of it into the package; an fp32 one with its weights stored as float16.

    Args:
        name: that users will know it by.
        model: a checkpoint, or an fp32 or int8 .onnx file of ours.
        about: what it is, one sentence.
        photos: a folder of pictures for the parity check; rendered garments when None.
        licence: of the weights.

    Raises:
        FashionInferError: what `write_onnx` raises; ParityError when rounding the weights changes the outputs.
    """
    output = LIST.with_name(f"{name}.onnx")
    with TemporaryDirectory(prefix="fashion-infer-") as scratch:
        source = model if model.suffix == ".onnx" else write_onnx(model, Path(scratch) / "fp32.onnx", photos=photos)[0]
        whole, spec = load_onnx(source)
        if (precision := precision_of(whole)) == "fp32":
            expected = OnnxRuntimeBackend(source).run(images := read_pictures(photos, spec.image_size))

            def write(temporary: Path) -> None:
                small = packed(whole)
                onnx.save_model(small, temporary)
                set_metadata(small, PARITY_KEY, check_parity(temporary, images, expected, TOLERANCE).to_json())
                onnx.save_model(small, temporary)

            write_atomically(output, write)
        else:
            write_atomically(output, lambda temporary: temporary.write_bytes(source.read_bytes()))
    size, sha256 = output.stat().st_size, sha256_of(output)
    facts = BuiltIn(about, licence, precision, spec.image_size, spec.categories, spec.attributes, size, sha256)
    listed = {known: asdict(entry) for known, entry in (built_in() | {name: facts}).items()}
    write_atomically(LIST, lambda temporary: temporary.write_text(json.dumps(listed, indent=1) + "\n"))
    return facts


def main(
    name: Annotated[str, typer.Argument(help="That users will know it by.")],
    model: Annotated[Path, typer.Argument(help="A checkpoint, or an fp32 or int8 .onnx file.")],
    about: Annotated[str, typer.Option(help="What it is, one sentence.")],
    photos: Annotated[Path | None, typer.Option(help="Folder of photos for the parity check.")] = None,
) -> None:
    """Write a model and what is known of it into this checkout's package."""
    facts = add_built_in(name, model, about, photos)
    typer.echo(f"{name}: {facts.precision}, {facts.bytes / 1e6:.2f} MB, sha256 {facts.sha256}")


if __name__ == "__main__":
    typer.run(main)
