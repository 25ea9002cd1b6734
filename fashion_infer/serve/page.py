"""`GET /`: the web page to drop a photo on. It consists of `page.html` alone, which loads nothing from other sites."""

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
    """The page, with the model's name and whether the server has a gallery filled in."""
    service: Service = request.app.state.service
    html, headers = _page()
    filled = html.replace("{model}", escape(service.model_name())).replace(
        "{gallery}", str(service.gallery is not None)
    )
    return HTMLResponse(filled, headers=headers)


@cache
def _page() -> tuple[str, dict[str, str]]:
    """The file's text, and the headers that allow only the script and style in it."""
    html = files("fashion_infer.serve").joinpath("page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    return html, {"Content-Security-Policy": policy(scripts, styles), "Cache-Control": "no-cache"}


def policy(scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> str:
    """A Content-Security-Policy that allows only these inline scripts and styles, and requests to the same server."""
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
    """The source list of a policy that allows inline texts by their sha256."""
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts) or "'none'"
