"""Endpoints of the KServe v2 protocol over REST, `/v2/...`; `tritonclient.http` is a client of it."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fashion_infer import __version__
from fashion_infer.preprocess import Box
from fashion_infer.serve.health import check_ready
from fashion_infer.serve.open_inference import LENGTH, VERSION, metadata, parse, response
from fashion_infer.serve.problems import RefusedError
from fashion_infer.serve.service import Service

router = APIRouter(prefix="/v2", tags=["KServe v2"])
MODEL, MODEL_VERSION = "/models/{model}", "/models/{model}/versions/{version}"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON. If the header Inference-Header-Content-Length gives its length, tensors follow it as "
        "bytes. Inputs: images UINT8 [N, S, S, 3], or image BYTES [N] (encoded images, binary only) and optionally "
        "boxes FP32 [N, 4].",
        "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}},
    }
}


@router.get("")
async def server() -> Response:
    """The server's metadata."""
    return JSONResponse({"name": "fashion-infer", "version": __version__, "extensions": ["binary_tensor_data"]})


@router.get("/health/live")
async def live() -> Response:
    """200 if the event loop responds."""
    return JSONResponse({"live": True})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """The same as /health/ready."""
    check_ready(request.app.state.service)
    return JSONResponse({"ready": True})


@router.get(MODEL)
@router.get(MODEL_VERSION)
async def model(request: Request, model: str, version: str = VERSION) -> Response:
    """Names, types and shapes of the model's inputs and outputs."""
    service = _service(request, model, version)
    return JSONResponse(metadata(model, service.predictor.spec))


@router.get(MODEL + "/ready")
@router.get(MODEL_VERSION + "/ready")
async def model_ready(request: Request, model: str, version: str = VERSION) -> Response:
    """The same as /health/ready, for the server's only model."""
    check_ready(_service(request, model, version))
    return JSONResponse({"name": model, "ready": True})


@router.post(MODEL + "/infer", openapi_extra=BODY)
@router.post(MODEL_VERSION + "/infer", openapi_extra=BODY)
async def infer(request: Request, model: str, version: str = VERSION) -> Response:
    """The network's outputs for a batch of pixels or for encoded images."""
    service = _service(request, model, version)
    inference = parse(await request.body(), request.headers.get(LENGTH), service.predictor.spec)
    if inference.batch is not None:
        count = len(inference.batch)
        outputs = await service.run([(inference.batch, None)], count, request.state.deadline)
    else:
        count = len(inference.images)
        boxes: list[Box | None] = [*inference.boxes] if inference.boxes else [None] * count
        outputs = await service.run(list(zip(inference.images, boxes, strict=True)), count, request.state.deadline)
    body, json_length = response(model, inference, outputs)
    if json_length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={LENGTH: str(json_length)})


def _service(request: Request, model: str, version: str) -> Service:
    """The application's Service; RefusedError (404) if the model or version in the path is not the server's."""
    service: Service = request.app.state.service
    if model != service.model_name() or version != VERSION:
        detail = f"this server has the model {service.model_name()} in version {VERSION} and no other"
        raise RefusedError(404, detail, name="NoModelError")
    return service
