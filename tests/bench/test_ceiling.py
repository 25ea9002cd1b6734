from pathlib import Path

import onnx
import onnx.parser
import pytest

from fashion_infer.bench.ceiling import count_operations, measure_ceiling
from fashion_infer.errors import ModelError


def parse(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 20]> ' + body)


@pytest.mark.parametrize(
    ("body", "fp32", "int8"),
    [
        ("g (float[n, 8] x, float[8, 4] w) => (float[n, 4] y) { y = MatMul (x, w) }", 2 * 8 * 4, 0),
        ("g (float[n, 8] x, float[4, 8] w) => (float[n, 4] y) { y = Gemm <transB = 1> (x, w) }", 2 * 8 * 4, 0),
        ("g (float[n, 8] x, float[8, 4] w) => (float[n, 4] y) { y = Gemm (x, w) }", 2 * 8 * 4, 0),
        (
            "g (float[n, 3, 8, 8] x, float[5, 3, 3, 3] w) => (float[n, 5, 6, 6] y) { y = Conv (x, w) }",
            2 * 5 * 6 * 6 * 3 * 9,
            0,
        ),
        (  # depthwise: one input channel an output
            "g (float[n, 4, 8, 8] x, float[4, 1, 3, 3] w) => (float[n, 4, 6, 6] y) { y = Conv <group = 4> (x, w) }",
            2 * 4 * 6 * 6 * 9,
            0,
        ),
        ("g (uint8[n, 8] x, int8[8, 4] w) => (int32[n, 4] y) { y = MatMulInteger (x, w) }", 0, 2 * 8 * 4),
        (
            """g (float[n, 8] x, int8[8, 4] w) => (float[n, 4] y) {
                s = Constant <value = float {0.1}> ()
                z = Constant <value = uint8 {0}> ()
                q = QuantizeLinear (x, s, z)
                a = DequantizeLinear (q, s, z)
                b = DequantizeLinear (w, s)
                y = MatMul (a, b)
            }""",
            0,
            2 * 8 * 4,
        ),
        (  # weights stored as int8 and computed in float are float operations
            """g (float[n, 8] x, int8[8, 4] w) => (float[n, 4] y) {
                s = Constant <value = float {0.1}> ()
                b = DequantizeLinear (w, s)
                y = MatMul (x, b)
            }""",
            2 * 8 * 4,
            0,
        ),
    ],
)
def test_operations_by_hand(body: str, fp32: int, int8: int) -> None:
    assert count_operations(parse(body)) == {"fp32": fp32, "int8": int8}


def test_operations_of_an_export_are_those_that_torch_counts(onnx_model: Path, checkpoint: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fashion_infer.training.checkpoint import load_checkpoint

    network, spec = load_checkpoint(checkpoint)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, spec.image_size, spec.image_size, 3, dtype=torch.uint8))
    model = onnx.load(onnx_model)
    before = model.SerializeToString()
    assert count_operations(model) == {"fp32": counter.get_total_flops(), "int8": 0}
    assert model.SerializeToString() == before


def test_an_unknown_shape_is_an_error_not_a_zero() -> None:
    body = """g (float[n, 8] x) => (float[n, m] y) {
        places = NonZero (x)
        w = Cast <to = 1> (places)
        y = MatMul (x, w)
    }"""
    with pytest.raises(ModelError, match=r"MatMul .*cannot be counted"):
        count_operations(parse(body))


def test_the_ceiling_is_measured_by_type() -> None:
    ceiling = measure_ceiling(1, seconds=0.2)
    assert set(ceiling) == {"fp32", "int8"}
    assert min(ceiling.values()) > 1e9  # a billion operations a second: any CPU of this century
