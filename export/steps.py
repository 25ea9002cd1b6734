"""From what the user has, a checkpoint or an ONNX file, to an ONNX file in the precision asked for."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fashion_infer.errors import UsageError
from fashion_infer.evaluation.parity import ParityReport
from fashion_infer.files import check_place
from fashion_infer.onnx_file import load_onnx, precision_of
from fashion_infer.precision import convert_file

if TYPE_CHECKING:
    from fashion_infer.export.quantize import Int8Options, Int8Report


def write_onnx(
    model: Path,
    output: Path | None = None,
    precision: str | None = None,
    photos: Path | None = None,
    int8: "Int8Options | None" = None,
) -> tuple[Path, "ParityReport | Int8Report | None"]:
    """Export a checkpoint, or convert an ONNX file; on any failure nothing is left at `output`.

    Args:
        model: a .safetensors checkpoint, or an .onnx file of ours.
        output: the .onnx file to write; in a folder, or beside `model` when None, named after it and the precision.
        precision: "fp32", "fp16", "bf16" or "int8"; None is fp32 for a checkpoint, and the file's own for an ONNX file.
        photos: a folder of pictures for the parity check; rendered garments when None.
        int8: what only int8 needs.

    Returns:
        The ONNX file, `model` itself where nothing had to be done, and its parity; None where nothing was done.

    Raises:
        UsageError: a precision that cannot be had from the model.
        FashionInferError: what `export_onnx`, `convert_file` and `quantize_file` raise.
    """
    if model.suffix == ".onnx":
        return _convert(model, output, precision, photos, int8)
    from fashion_infer.export.onnx_model import export_onnx  # needs torch, which an ONNX file does not

    if precision in (None, "fp32"):
        output = _place(output, model, ".onnx")
        return output, export_onnx(model, output, photos)
    with TemporaryDirectory(prefix="fashion-infer-") as folder:
        fp32 = Path(folder) / "fp32.onnx"
        export_onnx(model, fp32, photos)
        return _convert(fp32, _place(output, model, f".{precision}.onnx"), precision, photos, int8)


def _convert(
    source: Path, output: Path | None, precision: str | None, photos: Path | None, int8: "Int8Options | None"
) -> tuple[Path, "ParityReport | Int8Report | None"]:
    found = precision_of(load_onnx(source)[0])
    if precision in (None, found):
        return source, None
    if precision == "fp32":
        raise UsageError(f"{source} is {found} already: export the checkpoint, or give the fp32 file")
    output = _place(output, source, f".{precision}.onnx")
    if precision == "int8":
        if int8 is None:
            raise UsageError("int8 is measured on pictures like those to come: give a folder of them as --calibration")
        from fashion_infer.export.quantize import quantize_file  # needs onnxruntime's quantiser

        return output, quantize_file(source, output, int8)
    return output, convert_file(source, output, precision or found, photos)


def _place(output: Path | None, source: Path, suffix: str) -> Path:
    """The file to write: as it is given, or named after the source in a folder or beside it."""
    if output is None or output.is_dir():
        output = (output or source.parent) / source.with_suffix(suffix).name
    check_place(output)  # now, not after minutes of exporting
    return output
