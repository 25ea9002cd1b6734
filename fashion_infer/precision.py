"""Conversion of fp32 ONNX files to fp16 or bf16. The types are written into the graph, as TensorRT 11 requires.

Products (convolutions, fully connected layers) and the nodes between them become narrow. Three parts stay float32: the
normalisation of the picture, the nodes between the last product and each output (softmax, soft-argmax, unit length),
and the last products before landmarks and visibility, because a landmark that moves by a cell moves its whole window.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fashion_infer.embedding_space import converted_spec
from fashion_infer.errors import PrecisionError, UsageError, missing_extra
from fashion_infer.evaluation.parity import ParityReport, compare, read_pictures
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import METADATA_KEY, PARITY_KEY
from fashion_infer.onnx_file import PRODUCTS, load_onnx, precision_of, set_metadata

try:
    import onnx
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error

NARROW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
TOLERANCES = {"fp16": 0.02, "bf16": 0.08}  # bf16 has three bits fewer; uncertain landmarks change most
OPSETS = {"fp16": 20, "bf16": 22}  # 22 is the first with bfloat16 convolutions
GEOMETRY = ("landmarks", "visibility")  # the outputs that determine LandmarkPool's windows
OWN_TYPES = {"Resize": (1, 2), "LandmarkPool": (1, 2)}  # inputs whose type may differ from that of input 0


def convert_file(source: Path, output: Path, precision: str, photos: Path | None = None) -> ParityReport:
    """Convert an fp32 ONNX file of ours to a narrower precision, and check its parity with the source.

    Both run in ONNX Runtime on the CPU. It has no bfloat16 kernels, so for the check every value is rounded to bfloat16
    and the arithmetic is float32.

    Args:
        source: an fp32 .onnx file that `fashion-infer export` wrote.
        output: the .onnx file to write; if the conversion fails, no file is written.
        precision: "fp16" or "bf16".
        photos: a folder of pictures for the comparison. None compares on rendered garments; the file then gets its own
            embedding space, because nothing was measured on real pictures.

    Returns:
        The differences of each output.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: `fashion-infer export` did not write the file.
        UsageError: the source is not fp32, or the precision is unknown.
        PrecisionError: a weight is out of the range of the precision.
        ParityError: the results of the narrower model differ too much.
    """
    model, spec = load_onnx(source)
    narrow = to_precision(model, precision)
    images = read_pictures(photos, spec.image_size)
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend  # an extra of its own

    expected = OnnxRuntimeBackend(source).run(images)
    report: ParityReport | None = None

    def write(temporary: Path) -> None:
        nonlocal report
        onnx.save_model(narrow if precision == "fp16" else computed_in_fp32(narrow), temporary)
        outputs = OnnxRuntimeBackend(temporary).run(images)
        report = compare(outputs, expected, spec.image_size, TOLERANCES[precision])
        embeddings = expected["embedding"], outputs["embedding"]
        new_spec = converted_spec(spec, *embeddings, precision=precision, real=photos is not None)
        set_metadata(narrow, METADATA_KEY, new_spec.to_json())
        set_metadata(narrow, PARITY_KEY, report.to_json())
        onnx.save_model(narrow, temporary)

    write_atomically(output, write)
    assert report is not None
    return report


def to_precision(model: ModelProto, precision: str) -> ModelProto:
    """A copy of an fp32 model with its products in `precision`; the inputs and outputs keep their types.

    Raises:
        UsageError: the model is not fp32, or an unknown precision.
        PrecisionError: a weight does not fit the precision.
    """
    if precision not in NARROW:
        raise UsageError(f"unknown precision {precision!r}: it is fp32, fp16 or bf16")
    if (current := precision_of(model)) != "fp32":
        raise UsageError(f"the model is {current} already: convert an fp32 one to {precision}")
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = model.graph
    narrowing = _Narrowing(graph, NARROW[precision], _tensor_types(graph))
    wide = _wide_nodes(graph)
    for node in graph.node:
        narrowing.add(node, may_be_narrow=node.output[0] not in wide)
    used = {name for node in narrowing.nodes for name in node.input}
    constants = [tensor for tensor in (*graph.initializer, *narrowing.constants) if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(narrowing.nodes)
    graph.initializer.extend(constants)
    _set_opset(model, OPSETS[precision])
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


@dataclass
class _Narrowing:
    """The conversion of a graph to a narrower type, node by node.

    Attributes:
        graph: the fp32 graph.
        narrow: the type to narrow to.
        types: element type of every tensor so far, by name.
        nodes: the nodes so far, with the Casts between them.
        constants: narrowed copies of weights.
        copies: the name of each tensor's copy in the other type.
    """

    graph: GraphProto
    narrow: int
    types: dict[str, int]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}

    def add(self, node: NodeProto, may_be_narrow: bool) -> None:
        """Append a node. It becomes narrow if it may and is a product or all of its data is narrow."""
        own = OWN_TYPES.get(node.op_type, ())
        inputs = {i: name for i, name in enumerate(node.input) if self._is_float(name) and i not in own}
        data = {self.types[name] for name in inputs.values() if name not in self.weights}
        follows = data == {self.narrow} and node.op_type != "Cast"
        to = self.narrow if may_be_narrow and (follows or node.op_type in PRODUCTS) else TensorProto.FLOAT
        for i, name in inputs.items():
            node.input[i] = self._typed(name, to)
        for name in node.output:
            if self._is_float(name):
                self.types[name] = to
        self.nodes.append(node)

    def _is_float(self, name: str) -> bool:
        return self.types.get(name) in (TensorProto.FLOAT, self.narrow)

    def _typed(self, name: str, to: int) -> str:
        """The name of the same tensor in type `to`: itself, a narrowed weight, or a Cast."""
        if self.types[name] == to:
            return name
        if name not in self.copies:
            copy = self.copies[name] = f"{name}_{TensorProto.DataType.Name(to).lower()}"
            if name in self.weights:
                self.constants.append(_narrowed(self.weights[name], copy, to))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [copy], f"cast/{copy}", to=to))
        return self.copies[name]


def computed_in_fp32(model: ModelProto) -> ModelProto:
    """The same model for runtimes without bfloat16 kernels: float32 arithmetic with results rounded to bfloat16.

    Every narrow node sums in float32 and rounds its result, as a GPU's kernel does.
    """
    result = ModelProto()
    result.CopyFrom(model)
    types = _tensor_types(model.graph)
    del result.graph.node[:], result.graph.value_info[:]
    for node in model.graph.node:
        inputs = [name for name in node.input if types.get(name) == TensorProto.BFLOAT16]
        outputs = [name for name in node.output if types.get(name) == TensorProto.BFLOAT16]
        if node.op_type == "Cast" or not inputs:
            result.graph.node.append(node)
            continue
        prefix = node.output[0]
        exact = {name: f"{prefix}/{name}/exact" for name in (*inputs, *outputs)}
        for name in dict.fromkeys(inputs):
            result.graph.node.append(helper.make_node("Cast", [name], [exact[name]], to=TensorProto.FLOAT))
        copy = result.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [exact.get(name, name) for name in node.input]
        copy.output[:] = [exact.get(name, name) for name in node.output]
        for name in outputs:
            result.graph.node.append(helper.make_node("Cast", [exact[name]], [name], to=TensorProto.BFLOAT16))
    return result


def _wide_nodes(graph: GraphProto) -> set[str]:
    """The first output of each node that stays float32: the nodes after the last product before each output."""
    producers = {name: node for node in graph.node for name in node.output}
    wide: set[str] = set()
    for output in graph.output:
        pending = [output.name]
        while pending:
            node = producers.get(pending.pop())
            is_product = node is not None and node.op_type in PRODUCTS
            if node is None or node.output[0] in wide or (is_product and output.name not in GEOMETRY):
                continue
            wide.add(node.output[0])
            if not is_product:
                pending.extend(node.input)
    return wide


def _tensor_types(graph: GraphProto) -> dict[str, int]:
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _narrowed(tensor: TensorProto, name: str, to: int) -> TensorProto:
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(to))
    if not np.isfinite(values.astype(np.float32)).all():
        raise PrecisionError(f"{tensor.name} has values that {TensorProto.DataType.Name(to)} cannot hold: try bf16")
    return numpy_helper.from_array(values, name)


def _set_opset(model: ModelProto, version: int) -> None:
    """Set the opset of the graph and of its functions, which must be equal."""
    for opset in (*model.opset_import, *(opset for function in model.functions for opset in function.opset_import)):
        if opset.domain == "":
            opset.version = version
