"""The function as a part of a file; what it computes is tested with every other implementation."""

import onnx
import onnx.parser
import pytest

from fashion_infer.export.landmark_pool import DOMAIN, OPSET, add_landmark_pool, landmark_pool_function

CALL = f"""
    <ir_version: 10, opset_import: ["" : {OPSET}, "{DOMAIN}" : 1]>
    pool (float[N, 16, 8, 8] X, float[N, 8, 2] L, float[N, 8] V) => (float[N, 8, 16, 4, 4] Y) {{
        Y = fashion_infer.LandmarkPool <pooled_size = 4, bin_size = 2> (X, L, V)
    }}"""


def model() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(CALL)
    add_landmark_pool(proto)
    return proto


def test_a_model_with_the_function_passes_the_full_checker() -> None:
    onnx.checker.check_model(model(), full_check=True)


def test_the_domain_is_imported_once() -> None:
    proto = model()
    assert [opset.domain for opset in proto.opset_import].count(DOMAIN) == 1
    del proto.opset_import[1:]
    del proto.functions[:]
    add_landmark_pool(proto)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", OPSET), (DOMAIN, 1)]


def test_every_inner_node_has_a_name_of_its_own() -> None:
    names = [node.name for node in landmark_pool_function().node]
    assert len(set(names)) == len(names)
    assert all(name.startswith("LandmarkPool/") for name in names)


def test_the_function_needs_standard_operators_only() -> None:
    function = landmark_pool_function()
    assert [(opset.domain, opset.version) for opset in function.opset_import] == [("", OPSET)]
    assert {node.domain for node in function.node} == {""}
    assert sorted(function.attribute) + sorted(a.name for a in function.attribute_proto) == ["bin_size", "pooled_size"]


def test_no_shape_is_left_to_be_guessed() -> None:
    """-1 in a Reshape cannot be resolved for a batch of 0."""
    constants = [a.t for node in landmark_pool_function().node for a in node.attribute if a.name == "value"]
    assert all((onnx.numpy_helper.to_array(tensor) >= 0).all() for tensor in constants)


def test_tensorrt_rtx_parses_and_builds_it() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model().SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    profile = builder.create_optimization_profile()
    for name, shape in (("X", (16, 8, 8)), ("L", (8, 2)), ("V", (8,))):
        profile.set_shape(name, (1, *shape), (2, *shape), (4, *shape))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
