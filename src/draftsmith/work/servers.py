"""Servers of a job: started side by side, always stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager

from draftsmith.contract.errors import EngineError
from draftsmith.engines.base import Engine, Server, ServerSpec
from draftsmith.work.job import Watched

STARTS_AT_ONCE = max(2, (os.cpu_count() or 2) // 4)  # a start is mostly one thread importing and compiling


@contextmanager
def serving(
    job: Watched,
    engine: Engine | Mapping[str, Engine],
    specs: Mapping[str, ServerSpec | Callable[[], Server]],
    timeout_s: float,
    at_once: int = STARTS_AT_ONCE,
) -> Iterator[dict[str, Server]]:
    """Start the named servers, at most `at_once` at a time, and stop all of them on the way out.

    `engine`: of all of them, or of each name. A server is a specification, or a function that starts it in the engine's registry and returns at once.

    Raises EngineStartError as soon as one cannot start; the others are stopped. Where what is done with them ends in an
    EngineError because a server went away, EngineLostError names the cause.
    """
    if not specs:
        yield {}
        return
    engines = engine if isinstance(engine, Mapping) else dict.fromkeys(specs, engine)
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        names = list(specs)
        ready = 0
        leaving = threading.Event()

        def bring_up(name: str) -> None:
            nonlocal ready
            if leaving.is_set():
                return
            wanted, engine = specs[name], engines[name]
            server = engine.start(wanted, job.workdir / "servers") if isinstance(wanted, ServerSpec) else wanted()
            stack.callback(engine.stop, server)
            servers[name] = server
            if leaving.is_set():  # it came up while the others were being stopped
                engine.stop(server)
                return

            def stage(text: str, elapsed_s: float) -> None:
                job.progress("starting servers", ready, len(names), "servers", f"{name}: {text} ({elapsed_s:.0f} s)")

            engine.wait_ready(server, timeout_s, stage)
            ready += 1

        job.progress("starting servers", 0, len(names), "servers")
        with ThreadPoolExecutor(at_once) as pool:
            waiting: set[Future[None]] = set()
            try:
                waiting.update(pool.submit(bring_up, name) for name in names)
                done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
                if (failed := next((f.exception() for f in done if f.exception()), None)) is not None:
                    raise failed
            except BaseException:  # also on a signal to stop: servers that are no longer needed are not waited for
                leaving.set()
                for future in waiting:
                    future.cancel()
                for name, server in list(servers.items()):
                    engines[name].stop(server)
                raise
        try:
            yield {name: servers[name] for name in names}
        except EngineError:
            for name, server in servers.items():  # one that is gone says why, better than the request that failed
                engines[name].require_alive(server)
            raise


def one(servers: dict[str, Server]) -> Server:
    """The only server. Raises EngineError if there is another number of them."""
    if len(servers) != 1:
        raise EngineError(f"expected one server, found {len(servers)}")
    return next(iter(servers.values()))
