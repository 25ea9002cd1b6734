"""Errors as the client sees them: problem+json (RFC 9457), one status for each kind of error."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from fashion_infer.errors import (
    DeadlineExceededError,
    FashionInferError,
    GalleryLockedError,
    ImageError,
    PredictorClosedError,
    QueueFullError,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"
STATUSES: dict[type[FashionInferError], int] = {
    ImageError: 422,
    UsageError: 422,
    QueueFullError: 503,
    PredictorClosedError: 503,
    GalleryLockedError: 503,
    DeadlineExceededError: 504,
}


class RefusedError(Exception):
    """A request that is answered with a problem instead of a result."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        name: str = "RefusedError",
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Say why.

        Args:
            status: of the response.
            detail: what is wrong and what to do, a sentence.
            name: of the error, for programs.
            headers: of the response.
            retry_after: seconds after which it may be tried again; the header has them in whole seconds.
        """
        super().__init__(detail)
        self.status, self.detail, self.name = status, detail, name
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


def refusal_of(error: Exception) -> RefusedError:
    """How any error is answered; what was not foreseen becomes a 500 that does not tell its message."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, FashionInferError):
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
        retry_after = 1.0 if status == 503 else None
        return RefusedError(status, str(error), name=type(error).__name__, retry_after=retry_after)
    return RefusedError(500, "the server made a mistake; its log has the details", name="InternalError")


def problem(refusal: RefusedError, request_id: str) -> JSONResponse:
    """The response: type, title, status, detail and `name`, which is the error's.

    `error` repeats the detail, because KServe's clients read it there.
    """
    content: dict[str, Any] = {
        "type": f"urn:fashion-infer:{refusal.name}",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "name": refusal.name,
        "error": refusal.detail,
        "request_id": request_id,
    }
    return JSONResponse(content, refusal.status, refusal.headers, MEDIA_TYPE)


def answer(request: Request, error: Exception) -> JSONResponse:
    """The problem of an error that came up in an endpoint; its name is noted for the log and the metrics."""
    refusal = refusal_of(error)
    request.state.error = refusal.name
    return problem(refusal, request.state.request_id)
