"""The page on a port: alone, or beside a controller in its process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from draftsmith.api.watching import Watch
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.kit.addresses import LOOPBACK_NAMES
from draftsmith.web.app import make_app
from draftsmith.web.session import read_token

GRACE_S = 2
END_S = 10.0


def serve(watches: Sequence[Watch], host: str, port: int, token_file: Path | None, say: Callable[[str], None]) -> None:
    """Answer until interrupted; `say` receives the address."""
    server, listening = _bound(watches, host, port, token_file, say)
    with listening:
        server.run(sockets=[listening])


@contextmanager
def beside(
    watches: Sequence[Watch], host: str, port: int, token_file: Path | None, say: Callable[[str], None]
) -> Iterator[None]:
    """The same in a thread, for as long as the block runs: what ends the page does not end what it shows."""
    server, listening = _bound(watches, host, port, token_file, say)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(END_S)
        listening.close()


def _bound(
    watches: Sequence[Watch], host: str, port: int, token_file: Path | None, say: Callable[[str], None]
) -> tuple[uvicorn.Server, socket.socket]:
    on_loopback = host in LOOPBACK_NAMES
    token = read_token(token_file) if token_file else None
    app = make_app(watches, token, LOOPBACK_NAMES if on_loopback else ("*",))
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S
    )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise PrerequisiteError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}", "give --listen another address or port"
        ) from None
    name = f"[{host}]" if ":" in host else host
    acts = "with" if token else "without"
    say(f"the page is at http://{name}:{listening.getsockname()[1]}/, {acts} acts; Ctrl-C ends it")
    if not on_loopback:
        say("others on the network can read it; put a proxy with TLS before it if they may sign in")
    return uvicorn.Server(config), listening
