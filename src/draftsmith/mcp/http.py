"""Streamable HTTP on loopback. Only requests that name this address are answered, so that no page in a browser reaches the tools."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from draftsmith.contract.errors import PrerequisiteError

PATH = "/mcp"


def serve(server: MCPServer[Any], host: str, port: int, announce: Callable[[str], None]) -> None:
    """Answer until interrupted. `port` 0 takes a free one; `announce` receives the address once it is bound.

    A request is refused unless its Host is this address or localhost at this port, and its Origin, where a browser names one,
    the same. Raises PrerequisiteError if the port is taken.
    """
    import uvicorn

    try:
        bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PrerequisiteError(
            f"port {port} cannot be had: {error.strerror}", "give another --port, or 0 for any"
        ) from None
    with bound:
        taken = bound.getsockname()[1]
        announce(f"http://{_bracketed(host)}:{taken}{PATH}")
        app = server.streamable_http_app(streamable_http_path=PATH, transport_security=allowed(host, taken), host=host)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[bound])


def allowed(host: str, port: int) -> TransportSecuritySettings:
    """Names by which this server may be addressed: a name that merely resolves to it is not one of them."""
    names = [f"{name}:{port}" for name in dict.fromkeys((_bracketed(host), "localhost"))]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names]
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
