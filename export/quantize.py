"""int8: convert an exported ONNX file to 8 bits, leave the layers that lose too much in float, and check the outputs.

    pictures -> ranges of the tensors -> all layers in 8 bits -> too far from fp32? -> worst layers in float -> check

Every fourth picture is held out from the calibration. On these pictures the outputs are compared with those of fp32:
on this CPU, with exact 8-bit products, and, if qemu-user is installed, on an emulated CPU without VNNI. Similar outputs
do not prove equal accuracy. With labelled data both files are evaluated and their metrics compared; without it the file
says that its accuracy is unverified.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.embedding_space import converted_spec
from fashion_infer.errors import DataError, ParityError, UsageError, missing_extra
from fashion_infer.evaluation.judging import judge
from fashion_infer.evaluation.parity import read_pictures
from fashion_infer.export.other_cpu import can_emulate_avx2, run_on_avx2
from fashion_infer.export.qdq import Ranges, Target, calibrate, layers_of, to_int8
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import METADATA_KEY, PARITY_KEY, ModelSpec
from fashion_infer.onnx_file import load_onnx, precision_of

try:
    import onnx
    from onnx import ModelProto
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error

PICTURES = 128  # most pictures used for calibration and comparison together
MIN_PICTURES = 16
HELD_OUT = 4  # every fourth picture is for the comparison
RANKED_ON = 8  # pictures used when each layer is tried alone
EMULATED_ON = 4  # pictures run on the emulated CPU, which takes seconds for each
THIS_CPU, EXACT, AVX2 = "this CPU", "exact products", "a CPU without VNNI"
BATCH = 8
LIMITS = {  # largest allowed mean difference over the pictures
    "category": 0.05,  # half the sum of the absolute differences: the share of the probability that moved
    "attributes": 0.1,  # largest difference among the attributes
    "landmarks": 0.01,  # distance in shares of the input's side; two human annotators differ by more
    "visibility": 0.05,  # half the sum of the absolute differences
    "embedding": 0.15,  # distance of two vectors of unit length; 0.15 is a cosine of 0.989
}
METRICS = ("category_top1", "category_top3", "attribute_recall3_all", "landmark_error_box", "retrieval_hit20")
ERRORS = ("landmark_error_box",)  # metrics for which lower is better
BUDGET = 0.02


@dataclass(frozen=True)
class Int8Options:
    """Options for the conversion to int8.

    Attributes:
        calibration: A folder of at least 16 pictures like those of later use; up to 128, spread over it, are used.
        target: `cpu` (ONNX Runtime, OpenVINO) or `tensorrt`.
        data: Labelled images on which to evaluate both files; None for no evaluation.
        budget: Largest allowed loss of a metric on `data`, as a share of the fp32 file's metric.
    """

    calibration: Path
    target: Target = "cpu"
    data: FashionData | None = None
    budget: float = BUDGET


@dataclass(frozen=True)
class Int8Report:
    """How an int8 file differs from the fp32 file.

    Attributes:
        target: `cpu` or `tensorrt`; they need different files.
        images: Number of held-out pictures that the outputs were compared on.
        cpus: The kinds of CPU that the outputs were compared on.
        differences: Mean difference of each output from fp32's, as measured for `LIMITS`; the largest of all CPUs.
        layers: Number of layers that can be in 8 bits.
        float_layers: Names of those of them that were left in float, the worst first.
        accuracy: {metric: (fp32's, int8's)} on labelled data; None without such data.
    """

    target: Target
    images: int
    cpus: list[str]
    differences: dict[str, float]
    layers: int
    float_layers: list[str]
    accuracy: dict[str, tuple[float, float]] | None = None

    def to_json(self) -> str:
        """Return the report as one line of JSON; without labelled data the accuracy is "unverified"."""
        return json.dumps(asdict(self) | {"accuracy": self.accuracy or "unverified"})


def quantize_file(source: Path, output: Path, options: Int8Options) -> Int8Report:
    """Convert an fp32 ONNX file to int8; if anything fails, no file is written.

    Args:
        source: An fp32 .onnx file that `fashion-infer export` wrote.
        output: The .onnx file to write.
        options: The options.

    Returns:
        The report on how the files differ.

    Raises:
        ModelNotFoundError, ModelError: There is no such file, or it was not written by fashion-infer.
        UsageError: The source is not fp32, there are too few pictures, or the budget is below 0.
        ImageError: A picture cannot be read.
        DataError: The data has no image, or no label that the model has an output for.
        ParityError: The outputs or metrics differ too much from fp32's, even with up to half of the layers in float.
    """
    model, spec = load_onnx(source)
    if (precision := precision_of(model)) != "fp32":
        raise UsageError(f"{source} is {precision} already: give the fp32 file or its checkpoint")
    if not options.budget >= 0:
        raise UsageError(f"the budget must be at least 0, got {options.budget}")
    pictures = read_pictures(options.calibration, spec.image_size, PICTURES)
    if len(pictures) < MIN_PICTURES:
        raise UsageError(
            f"{options.calibration} holds {len(pictures)} pictures, calibration needs at least {MIN_PICTURES}"
        )
    held_out = pictures[::HELD_OUT]
    prepared, ranges = calibrate(source, np.delete(pictures, slice(None, None, HELD_OUT), axis=0))
    gate = _Gate(spec, held_out, _run(source, held_out), options, _judge(source, options))
    report: Int8Report | None = None

    def write(temporary: Path) -> None:
        nonlocal report
        report = _search(temporary, prepared, ranges, gate)

    write_atomically(output, write)
    assert report is not None
    return report


def differences(outputs: Outputs, expected: Outputs) -> dict[str, float]:
    """Compute the difference of two runs by output, measured as `LIMITS` says, as a mean over the pictures.

    Args:
        outputs: Outputs by name, float32 [N, ...].
        expected: Outputs of the fp32 file for the same N pictures.
    """
    result = {}
    for name, values in expected.items():
        gap = np.nan_to_num(np.abs(outputs[name] - values), nan=np.inf)  # NaN counts as an infinite difference
        if name == "attributes":
            apart = gap.max(axis=-1, initial=0)
        elif name in ("landmarks", "embedding"):
            apart = np.sqrt(np.square(gap).sum(axis=-1))
        else:
            apart = gap.sum(axis=-1) / 2
        result[name] = float(apart.mean())
    return result


@dataclass(frozen=True)
class _Gate:
    """The checks that an int8 file has to pass.

    Attributes:
        spec: ModelSpec of the network.
        pictures: uint8 [N, S, S, 3] RGB, the held-out pictures.
        expected: Outputs of the fp32 file for these pictures.
        options: The options, with the labelled images and the budget.
        metrics: Metrics of the fp32 file on the labelled images; empty without them.
    """

    spec: ModelSpec
    pictures: NDArray[np.uint8]
    expected: Outputs
    options: Int8Options
    metrics: dict[str, float]

    def accuracy(self, path: Path) -> dict[str, tuple[float, float]] | None:
        """Evaluate a file on the labelled data: {metric: (fp32's, this file's)}, or None without such data."""
        metrics = _judge(path, self.options)
        return {name: (before, metrics[name]) for name, before in self.metrics.items()} or None

    def compare(self, path: Path) -> dict[str, dict[str, float]]:
        """Measure the differences from fp32: {kind of CPU: {output: difference}}.

        A file for TensorRT is compared with exact products only, since TensorRT computes them exactly.
        """
        apart = {EXACT: differences(_run(path, self.pictures, exact_products=True), self.expected)}
        if self.options.target == "cpu":
            apart[THIS_CPU] = differences(_run(path, self.pictures), self.expected)
            if can_emulate_avx2():
                expected = {name: values[:EMULATED_ON] for name, values in self.expected.items()}
                apart[AVX2] = differences(run_on_avx2(path, self.pictures[:EMULATED_ON]), expected)
        return apart

    def complaints(self, apart: dict[str, dict[str, float]]) -> list[str]:
        """Describe, one sentence each, the outputs that differ too much from fp32's."""
        return [
            f"{name} differs by {gap:.2g} with {cpu} (limit {LIMITS[name]:g})"
            for cpu, gaps in apart.items()
            for name, gap in gaps.items()
            if not gap <= LIMITS[name]
        ]

    def losses(self, accuracy: dict[str, tuple[float, float]] | None) -> list[str]:
        """Describe, one sentence each, the metrics that lose more than the budget allows."""
        budget = self.options.budget
        sentences = []
        for name, (before, after) in (accuracy or {}).items():
            loss = after - before if name in ERRORS else before - after
            if loss > budget * before:
                sentences.append(f"{name} is {after:.4f}, fp32 gives {before:.4f} (budget {budget:.1%} of it)")
        return sentences


def _search(path: Path, model: ModelProto, ranges: Ranges, gate: _Gate) -> Int8Report:
    """Write the file at `path`, with as few layers in float as pass the gate: none, or the worst 1, 2, 4 and so on."""
    layers, target = layers_of(model.graph), gate.options.target
    if target == "cpu":
        layers = layers[1:]  # the first convolution is little of the work, but its rounding errors affect all layers
    counts = [0, *(2**i for i in range((len(layers) // 2).bit_length()))]
    worst_first: list[str] = []
    complaints: list[str] = []
    for count in counts:
        if count == 1:  # ranking takes one run per layer, so it is done only if it is needed
            worst_first = _worst_first(model, ranges, layers, gate)
        in_float = worst_first[:count]
        quantized = to_int8(model, ranges, [layer for layer in layers if layer not in in_float], target)
        _save(quantized, path, gate.spec)
        apart = gate.compare(path)
        if complaints := gate.complaints(apart):
            continue
        accuracy = gate.accuracy(path)
        if complaints := gate.losses(accuracy):
            continue
        worst = {name: max(gaps[name] for gaps in apart.values()) for name in LIMITS}
        report = Int8Report(target, len(gate.pictures), sorted(apart), worst, len(layers), in_float, accuracy)
        embeddings = _run(path, gate.pictures, exact_products=True)["embedding"]
        spec = converted_spec(gate.spec, gate.expected["embedding"], embeddings, precision="int8", real=True)
        _save(quantized, path, spec, report)
        return report
    raise ParityError(
        f"int8 changes too much, even with the worst {counts[-1]} of {len(layers)} layers in float: "
        f"{'; '.join(complaints)}. Calibrate on pictures more like those of later use, or stay with fp32 or bf16"
    )


def _worst_first(model: ModelProto, ranges: Ranges, layers: list[str], gate: _Gate) -> list[str]:
    """Sort the layers by the difference that each causes when it alone has its input and weights rounded."""
    pictures = gate.pictures[:RANKED_ON]
    expected = {name: values[:RANKED_ON] for name, values in gate.expected.items()}

    def harm(layer: str) -> float:
        with TemporaryDirectory() as folder:
            path = Path(folder, "alone.onnx")
            _save(to_int8(model, ranges, [layer], "tensorrt"), path, gate.spec)  # this target rounds no outputs
            apart = differences(_run(path, pictures, exact_products=True), expected)
        return max(apart[name] / LIMITS[name] for name in apart)

    return sorted(layers, key=harm, reverse=True)


def _run(path: Path, pictures: NDArray[np.uint8], *, exact_products: bool = False) -> Outputs:
    backend = OnnxRuntimeBackend(path, exact_products=exact_products)
    parts = [backend.run(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _judge(path: Path, options: Int8Options) -> dict[str, float]:
    """Evaluate a file: those of `METRICS` that the data has labels for; empty without data."""
    if options.data is None:
        return {}
    backend = OnnxRuntimeBackend(path, exact_products=options.target == "tensorrt")
    metrics = judge(backend.run, backend.spec, options.data, batch_size=BATCH).evaluation.to_dict()
    labelled = {name: value for name in METRICS if isinstance(value := metrics.get(name), float)}
    if not labelled:
        raise DataError(f"the data has no labels for any of {', '.join(METRICS)}")
    return labelled


def _save(model: ModelProto, path: Path, spec: ModelSpec, report: Int8Report | None = None) -> None:
    model.producer_name, model.producer_version = "fashion-infer", ""
    del model.metadata_props[:]  # those of the fp32 file, and those that onnxruntime.quantization adds
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    if report is not None:
        model.metadata_props.add(key=PARITY_KEY, value=report.to_json())
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
