"""Write an ONNX file in the requested precision from a checkpoint or another ONNX file."""

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
    """Export a checkpoint, or convert an ONNX file; if anything fails, no file is written.

    Args:
        model: A .safetensors checkpoint, or an .onnx file of fashion-infer.
        output: The .onnx file to write, or a folder for it; the folder of `model` when None. In a folder the file is
            named after the model and the precision.
        precision: `fp32`, `fp16`, `bf16` or `int8`; None means fp32 for a checkpoint, unchanged for an ONNX file.
        photos: A folder of pictures for the parity check; rendered garments when None.
        int8: Options for int8; None for other precisions.

    Returns:
        The path of the ONNX file and its parity report. If an ONNX file has the precision already, these are `model`
        itself and None.

    Raises:
        UsageError: The model cannot be converted to this precision.
        FashionInferError: An error of `export_onnx`, `convert_file` or `quantize_file`.
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
    source_precision = precision_of(load_onnx(source)[0])
    if precision is None or precision == source_precision:
        return source, None
    if precision == "fp32":
        raise UsageError(f"{source} is {source_precision} already: export the checkpoint, or give the fp32 file")
    output = _place(output, source, f".{precision}.onnx")
    if precision == "int8":
        if int8 is None:
            raise UsageError("int8 is measured on pictures like those to come: give a folder of them as --calibration")
        from fashion_infer.export.quantize import quantize_file  # needs onnxruntime's quantiser

        return output, quantize_file(source, output, int8)
    return output, convert_file(source, output, precision, photos)


def _place(output: Path | None, source: Path, suffix: str) -> Path:
    """Return the path to write to: `output` if it is a file, else a name after the source in that folder."""
    if output is None or output.is_dir():
        output = (output or source.parent) / source.with_suffix(suffix).name
    check_place(output)  # before minutes of exporting
    return output
