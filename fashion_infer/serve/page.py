"""`GET /`: a page to drop a photo on. All of it is `page.html`, which loads nothing from elsewhere."""

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from fashion_infer.serve.service import Service

router = APIRouter()


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page, told which model there is and whether there is a gallery."""
    service: Service = request.app.state.service
    html, headers = _page()
    told = html.replace("{model}", escape(service.model_name())).replace("{gallery}", str(service.gallery is not None))
    return HTMLResponse(told, headers=headers)


@cache
def _page() -> tuple[str, dict[str, str]]:
    """The file, and the headers that allow its own script and style and no other."""
    html = files("fashion_infer.serve").joinpath("page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    return html, {"Content-Security-Policy": policy(scripts, styles), "Cache-Control": "no-cache"}


def policy(scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> str:
    """A Content-Security-Policy that allows these inline scripts and styles, and what the page asks of its server."""
    rules = {
        "default-src": "'none'",
        "script-src": _hashes(scripts),
        "style-src": _hashes(styles),
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hashes(texts: Sequence[str]) -> str:
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts) or "'none'"
