"""Whether the server answers and can work, and what it has counted."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fashion_infer.serve.problems import RefusedError
from fashion_infer.serve.service import Service

router = APIRouter(tags=["operation"])


@router.get("/health/live")
async def live() -> Response:
    """200 where the event loop answers."""
    return JSONResponse({"live": True})


@router.get("/health/ready", responses={503: {"description": "not warm yet, or nothing has come out for 10 s"}})
async def ready(request: Request) -> Response:
    """200 where the model is warm, and a run has ended lately or nothing waits."""
    check_ready(request.app.state.service)
    return JSONResponse({"ready": True})


def check_ready(service: Service) -> None:
    """Raise RefusedError (503) where requests would not be answered now."""
    if not service.is_ready():
        why = "nothing has come out of the network for long" if service.warm else "the model is not warm yet"
        raise RefusedError(503, why, name="NotReadyError", retry_after=1)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
