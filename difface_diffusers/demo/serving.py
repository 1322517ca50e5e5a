"""What a server adds to the demo: a health check, a token, a limit of calls, and programs served without the page."""

import ipaddress
import math
import secrets
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..utils.versions import PACKAGE, version_of
from .limit import CallLimit


API = "/gradio_api/"
STARTED = API + "startup-events"  # Gradio itself asks for it when it starts, and it tells nothing
HEALTH = "/health"
FOR_PROGRAMS = ("/config", API)  # what clients ask for
COUNTED = tuple(API + name for name in ("call/", "queue/join", "upload", "component_server", "process_recording"))
IPV6_NETWORK = 64  # bits of an address; the rest a visitor can choose


class Guard:
    """Middleware that refuses what may not be asked, with a sentence.

    Args:
        app: what stands behind it.
        api_only: nothing is served but what programs need.
        token: that every request but the health check must carry; none if it is `None`.
        limit: of the requests that start work or bring files; none if it is `None`.
    """

    def __init__(self, app: ASGIApp, api_only: bool, token: str | None, limit: CallLimit | None) -> None:
        self.app = app
        self.api_only = api_only
        self.token = token
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        refusal = self._refuse(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        path = request.scope["path"]
        if path in (HEALTH, STARTED):
            return None
        if self.token is not None and not _carries(request, self.token):
            return _sentence(
                401, "A token is needed here: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
            )
        if self.api_only and path != "/" and not path.startswith(FOR_PROGRAMS):
            return _sentence(404, "Only programs are served here; / says what there is.")
        if self.limit is not None and request.method == "POST" and path.startswith(COUNTED):
            wait = math.ceil(self.limit.wait(visitor_of(request)))
            if wait:
                return _sentence(
                    429,
                    f"That is more than {self.limit.calls} calls and uploads in a minute; try again in {wait} s.",
                    {"Retry-After": f"{wait}"},
                )
        return None


def app_options(api_only: bool, token: str | None, calls_per_minute: int | None) -> dict[str, Any]:
    """Return what Gradio builds its server with; see `launch` for the arguments."""
    routes = [Route(HEALTH, _health)]
    if api_only:
        routes.append(Route("/", _index))  # before Gradio's
    limit = CallLimit(calls_per_minute) if calls_per_minute else None
    return {"routes": routes, "middleware": [Middleware(Guard, api_only, token, limit)]}


def visitor_of(request: Request) -> str:
    """Return from where a request comes: an address, or the network of one of version 6."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a proxy may name its client by any word
        return host
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped:
        return host
    return str(ipaddress.ip_network((address, IPV6_NETWORK), strict=False))


def _carries(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode())


def _sentence(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": sentence}, status, headers)


def _health(request: Request) -> Response:
    # The models are loaded before anything is served.
    return JSONResponse({"status": "ok", "version": version_of(PACKAGE)})


def _index(request: Request) -> Response:
    endpoints = list(request.app.get_blocks().get_api_info()["named_endpoints"])
    return JSONResponse(
        {
            "name": "difface-diffusers",
            "version": version_of(PACKAGE),
            "endpoints": endpoints,
            "info": f"{API}info",
            "health": HEALTH,
        }
    )
