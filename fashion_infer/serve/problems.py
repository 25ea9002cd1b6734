"""Responses for errors: problem+json (RFC 9457), with one status for each kind of error."""

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
    """A request that the server answers with a problem document instead of a result."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        name: str = "RefusedError",
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Describe the refusal.

        Args:
            status: the HTTP status of the response.
            detail: a sentence for people that says what is wrong and what to do.
            name: the error's name, for programs.
            headers: additional headers of the response.
            retry_after: seconds after which the client may try again; the Retry-After header rounds them up.
        """
        super().__init__(detail)
        self.status, self.detail, self.name = status, detail, name
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


def refusal_of(error: Exception) -> RefusedError:
    """The refusal with which an error is answered; an unexpected error becomes a 500 that hides its message."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, FashionInferError):
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
        retry_after = 1.0 if status == 503 else None
        return RefusedError(status, str(error), name=type(error).__name__, retry_after=retry_after)
    return RefusedError(500, "the server made a mistake; its log has the details", name="InternalError")


def problem(refusal: RefusedError, request_id: str) -> JSONResponse:
    """The response with a problem document: RFC 9457's type, title, status and detail, and the error's `name`.

    `error` repeats the detail, because clients of KServe v2 read it from there.
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
    """The response for an error of an endpoint; stores the error's name for the log and the metrics."""
    refusal = refusal_of(error)
    request.state.error = refusal.name
    return problem(refusal, request.state.request_id)
