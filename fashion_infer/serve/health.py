"""Health checks and metrics."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fashion_infer.serve.problems import RefusedError
from fashion_infer.serve.service import Service

router = APIRouter(tags=["operation"])


@router.get("/health/live")
async def live() -> Response:
    """200 if the event loop responds."""
    return JSONResponse({"live": True})


@router.get(
    "/health/ready",
    responses={503: {"description": "the model is not warm yet, or images wait and there was no result for 10 s"}},
)
async def ready(request: Request) -> Response:
    """200 if the model is warm and either no image waits or there was a result in the last 10 s."""
    check_ready(request.app.state.service)
    return JSONResponse({"ready": True})


def check_ready(service: Service) -> None:
    """Raise RefusedError (503) if the server cannot answer requests now."""
    if not service.is_ready():
        why = (
            "images wait, but the network has given no result for a long time"
            if service.warm
            else "the model is not warm yet"
        )
        raise RefusedError(503, why, name="NotReadyError", retry_after=1)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Counters and histograms in the text format of Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
