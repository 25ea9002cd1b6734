"""LandmarkPool alone on a GPU: the function that an ONNX file carries, in an engine, beside torch's operator.

NOT RUN ON A GPU YET. A part of gpu.py. Everything is on the device and in CUDA graphs. A native kernel is not here:
there is none.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fashion_infer.errors import DeviceError, EngineBuildError, ParityError
from fashion_infer.tensorrt.api import errors_in, load_tensorrt, log_of, recording

SIDE = 28  # of the map at stride 8, of a picture of 224 pixels
ROUNDS, REPLAYS = 5, 200


def bench_pooling(batch: int, channels: int) -> dict[str, list[float]]:
    """Milliseconds of each round in a CUDA graph, by contender, once both gave the same.

    Both read the same contiguous [N, C, H, W] features on the device. In a network they lie channels last already,
    which saves a transposition: these times are above what pooling costs there.

    Raises:
        ParityError: the engine does not give exactly what torch's operator gives.
    """
    import torch

    from fashion_infer.training.landmark_pool import landmark_pool

    trt, plan = pooling_plan(pooling_model(batch, channels))
    torch.manual_seed(0)
    inputs = {
        "features": torch.randn(batch, channels, SIDE, SIDE, device="cuda").half(),
        "landmarks": torch.rand(batch, 8, 2, device="cuda"),
        "gate": (torch.rand(batch, 8, device="cuda") > 0.2).float(),
    }
    pooled = torch.zeros(batch, 8, channels, 4, 4, dtype=torch.float16, device="cuda")
    launch = pooling_launch(trt, plan, {**inputs, "pooled": pooled})
    with torch.inference_mode():
        graphs = {"tensorrt": capture(launch), "torch": capture(lambda: landmark_pool(*inputs.values()))}
        pooled.zero_()
        graphs["tensorrt"].replay()
        if not torch.equal(pooled, landmark_pool(*inputs.values())):
            raise ParityError(f"LandmarkPool alone gives something else than torch's operator at batch {batch}")
    rounds: dict[str, list[float]] = {contender: [] for contender in graphs}
    for _ in range(ROUNDS):
        for contender, graph in graphs.items():
            rounds[contender].append(replay_milliseconds(graph))
    return rounds


def pooling_model(batch: int, channels: int) -> bytes:
    """An ONNX file of LandmarkPool's function alone: fp16 features, float32 landmarks and gates, all sizes fixed."""
    import onnx

    from fashion_infer.export.landmark_pool import add_landmark_pool

    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20, "fashion_infer" : 1]>
        pooling (float16[{batch}, {channels}, {SIDE}, {SIDE}] features, float[{batch}, 8, 2] landmarks,
                 float[{batch}, 8] gate) => (float16[{batch}, 8, {channels}, 4, 4] pooled)
        {{ pooled = fashion_infer.LandmarkPool <pooled_size = 4, bin_size = 2> (features, landmarks, gate) }}"""
    )
    add_landmark_pool(model)
    return bytes(model.SerializeToString())


def pooling_plan(model: bytes) -> tuple[Any, bytes]:
    """TensorRT, whichever flavour is installed, and the plan it makes of an ONNX file whose sizes are fixed."""
    _, trt = load_tensorrt()
    with recording(trt) as lines:
        builder = trt.Builder(log_of(trt))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log_of(trt))
        config = builder.create_builder_config()
        if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # flavour rtx: or no CUDA graph could be captured
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        plan = builder.build_serialized_network(network, config) if parser.parse(model) else None
    if plan is None:
        raise EngineBuildError(f"LandmarkPool alone cannot be built: {errors_in(lines)}")
    return trt, bytes(plan)


def pooling_launch(trt: Any, plan: bytes, tensors: Mapping[str, Any]) -> Callable[[], None]:
    """What launches a plan on torch's current stream, over torch tensors on the device by name."""
    import torch

    runtime = trt.Runtime(log_of(trt))
    with recording(trt) as lines:
        loaded = runtime.deserialize_cuda_engine(plan)
        if loaded is None:
            raise DeviceError(f"TensorRT cannot load LandmarkPool alone: {errors_in(lines)}")
        context = loaded.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise DeviceError(f"TensorRT could not make an execution context: {errors_in(lines)}")
    workspace = torch.empty(max(loaded.device_memory_size_v2, 1), dtype=torch.uint8, device="cuda")
    context.set_device_memory(workspace.data_ptr(), workspace.numel())
    for name, tensor in tensors.items():
        if not context.set_tensor_address(name, tensor.data_ptr()):
            raise DeviceError(f"TensorRT refused the address of {name}")

    def launch(_kept: tuple[Any, ...] = (runtime, loaded, workspace)) -> None:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise DeviceError("TensorRT could not run LandmarkPool alone")

    return launch


def capture(launch: Callable[[], Any]) -> Any:
    """A CUDA graph of a launch, after three that do the work of first runs."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            launch()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return graph


def replay_milliseconds(graph: Any) -> float:
    """Milliseconds of one replay of a CUDA graph, the mean of many in a row."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / REPLAYS
