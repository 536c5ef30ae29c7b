"""Commands for those who watch: metrics, the page, the terminal. They take several workspaces: one a served model."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import say, show

Workspaces = Annotated[
    list[str] | None,
    typer.Option("--workspace", "-w", help="workspace of a served model; can be repeated"),
]


def metrics(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", help="serve the metrics at HOST:PORT/metrics until Ctrl-C, for example 127.0.0.1:9464"
        ),
    ] = None,
    workspace: Workspaces = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Metrics of the served models in the text format of Prometheus: once, or with --listen for Prometheus to fetch."""
    from draftsmith.api.watching import watch
    from draftsmith.web.metrics import exposition, registry

    watches = watch(o.configuration(config), workspace or ())
    if listen is None:
        text = exposition(watches).decode()
        show({"metrics": text}, text.rstrip("\n"))
        return
    from prometheus_client import start_http_server

    host, port = address(listen)
    server, thread = start_http_server(port, host, registry(watches))
    say(f"metrics at http://{host}:{server.server_port}/metrics; Ctrl-C ends it")
    try:
        thread.join()
    finally:
        threading.Thread(target=server.shutdown).start()
        server.server_close()


def web(
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT to listen on; the default is reachable from this machine only")
    ] = "127.0.0.1:8642",
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="file (mode 600) with the token for operators' acts; without it the page is read-only",
        ),
    ] = None,
    workspace: Workspaces = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """The page: served models, their controller, runs and verdicts, live. It only shows, unless --token-file is given."""
    from draftsmith.api.watching import watch

    host, port = address(listen)
    page().serve(watch(o.configuration(config), workspace or ()), host, port, token_file, say)


def page() -> ModuleType:
    """The module that runs the page. Raises PrerequisiteError without its libraries."""
    from importlib import import_module

    from draftsmith.contract.errors import PrerequisiteError

    try:
        return import_module("draftsmith.web.running")
    except ImportError as error:
        raise PrerequisiteError(f"the page needs {error.name}", "pip install 'draftsmith[web]'") from None


def top(
    every: Annotated[float, typer.Option("--every", help="seconds between two updates", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="print the screen once; the default without a terminal")] = False,
    workspace: Workspaces = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """One screen of every served model: state, live figures, the run in progress with its ETA, the latest events."""
    import time

    from rich.console import Console
    from rich.live import Live

    from draftsmith.api.watching import watch
    from draftsmith.cli.output import Mode
    from draftsmith.cli.top import screen

    watches = watch(o.configuration(config), workspace or ())
    if Mode.json:
        models = [item.model(shown=1) for item in watches]
        show([model.model_dump(mode="json", by_alias=True) for model in models])
        return
    console = Console()
    if once or not console.is_terminal:
        console.print(screen([item.model(shown=1) for item in watches]))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen([item.model(shown=1) for item in watches]), refresh=True)
            time.sleep(every)


def traces(
    run_id: o.RunId = None,
    endpoint: Annotated[
        str,
        typer.Option(
            "--endpoint", envvar="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", help="where a collector takes OTLP over HTTP"
        ),
    ] = "http://127.0.0.1:4318/v1/traces",
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Send a run (the newest without an id) and the acts of the controller to an OpenTelemetry collector, as spans.

    Sent again, or while the run goes on, they are the same spans. Names, times and outcomes only.
    """
    from draftsmith.api.runs import get_run
    from draftsmith.api.watching import watch
    from draftsmith.web.traces import export, spans_of_acts, spans_of_run

    settled = o.configuration(config, workspace=workspace)
    run = get_run(settled, run_id)
    watched = watch(settled)[0]
    name = run.record.run_id
    spans = [*spans_of_run(name, run.events()), *spans_of_acts(watched.slug, watched.events())]
    sent = export(spans, endpoint)
    show({"run_id": name, "spans": sent}, f"{sent} spans of {name} and the controller were sent to {endpoint}")


def address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises InputError."""
    from draftsmith.contract.errors import InputError

    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--listen {text!r} is no HOST:PORT", "give it as 127.0.0.1:9464")
    return host.strip("[]"), int(port)
