"""The page: addresses, headers, and what each shows. Read-only but for operators who know the token."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import draftsmith
from draftsmith.api.watching import Watch
from draftsmith.contract.errors import DraftsmithError, InputError
from draftsmith.contract.view import ModelView, RunView
from draftsmith.web.acts import ACTS, carry_out
from draftsmith.web.metrics import CONTENT_TYPE, Workspaces
from draftsmith.web.pages import render
from draftsmith.web.pulse import MOST, Pulse
from draftsmith.web.session import SESSION_S, Gate

RUNS_SHOWN = 25
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
# A report is a file of a run: it may style itself, and it runs nothing.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
HIDDEN: dict[str, Any] = {
    "workspace": True,
    "runs": {"__all__": {"folder", "report"}},
    "heads": {"__all__": {"folder", "target"}},
    "controller": {"workspace"},
}


def make_app(
    watches: Sequence[Watch],
    token: str | None = None,
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    every_s: float = 1.0,
) -> FastAPI:
    """The page of these workspaces. `hosts`: names it may be addressed by. `every_s`: seconds between two looks."""
    app = FastAPI(title="Draftsmith", version=draftsmith.__version__, docs_url=None, redoc_url=None)
    page = Page(watches, Gate(token), Pulse(watches, every_s))
    app.add_middleware(Headers)
    app.add_middleware(
        SessionMiddleware,
        secret_key=secrets.token_hex(32),
        session_cookie="draftsmith",
        max_age=SESSION_S,
        same_site="strict",
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    shown: dict[str, Callable[..., Any]] = {
        "/": page.overview,
        "/models/{slug}": page.model,
        "/models/{slug}/runs/{run_id}": page.run,
        "/models/{slug}/runs/{run_id}/report": page.report,
        "/models/{slug}/compare": page.compare,
        "/login": page.login_form,
        "/events": page.events,
        "/metrics": page.metrics,
        "/api": page.api,
    }
    for address, function in shown.items():
        app.add_api_route(address, function, include_in_schema=False)
    for address, function, kind in (
        ("/api/models", page.models_json, list[ModelView]),
        ("/api/models/{slug}", page.model_json, ModelView),
        ("/api/models/{slug}/runs/{run_id}", page.run_json, RunView),
    ):
        app.add_api_route(address, function, tags=["read"], responses={200: {"model": kind}})
    app.post("/login", include_in_schema=False)(page.login)
    app.post("/logout", include_in_schema=False)(page.logout)
    app.post("/models/{slug}/acts/{act}", include_in_schema=False)(page.act)
    for error in (AnyHTTPException, RequestValidationError, Exception):
        app.exception_handler(error)(page.refused)
    return app


class Headers:
    """What every answer carries. Plain ASGI: a stream passes as it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-store"
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class Page:
    """What each address answers. Plain functions run in threads, so that one slow disk does not stop the others."""

    def __init__(self, watches: Sequence[Watch], gate: Gate, pulse: Pulse) -> None:
        self.watches, self.gate, self.pulse = {watch.slug: watch for watch in watches}, gate, pulse
        self.collector = Workspaces(watches)

    # -- pages -------------------------------------------------------------------------------------------------------

    def overview(self, request: Request) -> Response:
        """Every served model."""
        models = [watch.model(shown=1, events=1) for watch in self.watches.values()]
        return self._page(request, "overview", models=models)

    def model(self, request: Request, slug: str, page: int = 1) -> Response:
        """One served model: what stands, the controller, the timeline, its runs."""
        watch = self._watch(slug)
        page = max(1, min(page, 1_000_000))
        model = watch.model(shown=RUNS_SHOWN, offset=(page - 1) * RUNS_SHOWN)
        pages = max(1, -(-model.runs_total // RUNS_SHOWN))
        created = {head.run_id: head.created_unix_s for head in model.heads}
        policy = watch.config.controller
        return self._page(request, "model", model=model, policy=policy, page=page, pages=pages, created=created)

    def run(self, request: Request, slug: str, run_id: str) -> Response:
        """One run: phases, verdict, guards."""
        watch = self._watch(slug)
        view = self._run(watch, run_id)
        return self._page(
            request, "run", slug=slug, run=view, progress=watch.progress(view), decision=watch.decision(view)
        )

    def report(self, slug: str, run_id: str) -> Response:
        """The report of a run, as it was written."""
        view = self._run(self._watch(slug), run_id)
        if view.report is None or not Path(view.report).is_file():
            raise HTTPException(404, "this run has no report yet")
        text = Path(view.report).read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"content-security-policy": REPORT_POLICY})

    def compare(self, request: Request, slug: str, a: str = "", b: str = "") -> Response:
        """Two runs side by side."""
        watch = self._watch(slug)
        runs = [self._run(watch, run_id) for run_id in (a, b)]
        verdicts = [run.verdict for run in runs if run.verdict]
        arms = list(dict.fromkeys(arm for verdict in verdicts for arm in verdict.acceptance_length))
        points = list(dict.fromkeys(point for verdict in verdicts for point in verdict.median_tpot_ms))
        return self._page(request, "compare", slug=slug, runs=runs, arms=arms, points=points)

    def login_form(self, request: Request) -> Response:
        """Where the token is asked for."""
        return self._page(request, "login", wrong=None)

    # -- acts --------------------------------------------------------------------------------------------------------

    def login(self, request: Request, token: Annotated[str, Form()] = "") -> Response:
        """Let in who knows the token."""
        address = request.client.host if request.client else ""
        if not _same_origin(request):
            raise HTTPException(403, "this form was not sent by this page")
        wrong = self.gate.attempt(token, address, request.session)
        if wrong is None:
            return RedirectResponse("/", 303)
        return self._page(request, "login", status=403, wrong=wrong)

    def logout(self, request: Request, csrf: Annotated[str, Form()] = "") -> Response:
        """Forget the session."""
        if self.gate.sent_by_us(request.session, csrf):
            request.session.clear()
        return RedirectResponse("/", 303)

    def act(
        self,
        request: Request,
        slug: str,
        act: str,
        csrf: Annotated[str, Form()] = "",
        because: Annotated[str, Form()] = "",
        key: Annotated[str, Form()] = "",
    ) -> Response:
        """Do what the operator asks for, and say what came of it on the next page."""
        watch = self._watch(slug)
        if act not in ACTS:
            raise HTTPException(404, "there is no such act")
        if not self.gate.may_act(request.session):
            raise HTTPException(403, "sign in with the token first")
        if not (_same_origin(request) and self.gate.sent_by_us(request.session, csrf)):
            raise HTTPException(403, "this form was not sent by this page: load it again")
        try:
            request.session["said"] = carry_out(act, watch, because, key)
        except DraftsmithError as error:
            request.session["said"] = f"refused: {error.message}; {error.next_step}"
        return RedirectResponse(f"/models/{slug}", 303)

    # -- for programs ------------------------------------------------------------------------------------------------

    def models_json(self) -> Response:
        """Every served model with its newest run. Paths of the disk are left out."""
        models = [watch.model(shown=1, events=1) for watch in self.watches.values()]
        return _json(f"[{','.join(_plain(model) for model in models)}]")

    def model_json(self, slug: str, page: int = 1) -> Response:
        """One served model with a page of its runs, newest first. Paths of the disk are left out."""
        offset = (max(1, min(page, 1_000_000)) - 1) * RUNS_SHOWN
        return _json(_plain(self._watch(slug).model(shown=RUNS_SHOWN, offset=offset)))

    def run_json(self, slug: str, run_id: str) -> Response:
        """One run. Paths of the disk are left out."""
        return _json(self._run(self._watch(slug), run_id).model_dump_json(exclude={"folder", "report"}))

    def api(self, request: Request) -> Response:
        """What programs can ask here, for people: the pages of /openapi.json without a script."""
        schema = request.app.openapi()
        return self._page(request, "api", paths=schema["paths"], schemas=schema["components"]["schemas"])

    def metrics(self) -> Response:
        """For Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self.collector)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)

    async def events(self, request: Request) -> Response:
        """Tells an open page that something changed."""
        if self.pulse.open >= MOST:
            return PlainTextResponse("too many pages are open", 503)
        return StreamingResponse(self.pulse.stream(request.is_disconnected), media_type="text/event-stream")

    # -- in common ---------------------------------------------------------------------------------------------------

    async def refused(self, request: Request, error: Exception) -> Response:
        """An error as a page, or as JSON under /api. What nobody foresaw is a page too, and its cause goes to the log."""
        match error:
            case AnyHTTPException():
                status, why = error.status_code, str(error.detail)
            case RequestValidationError():
                status, why = 422, f"{error.errors()[0]['loc'][-1]}: {error.errors()[0]['msg']}"
            case _:
                status, why = 500, f"this could not be shown ({type(error).__name__}); the log of the server says why"
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": why}, status, headers=HEADERS)
        answer = self._page(request, "error", status=status, why=why)
        answer.headers.update(HEADERS)
        return answer

    def _page(self, request: Request, name: str, status: int = 200, **values: Any) -> Response:
        session = request.session
        notice = session.pop("said", None) if request.headers.get("x-part") is None else None
        values |= {"may_act": self.gate.may_act(session), "csrf": session.get("csrf", ""), "closed": self.gate.closed}
        return HTMLResponse(render(name, said=notice, version=draftsmith.__version__, **values), status)

    def _watch(self, slug: str) -> Watch:
        if slug not in self.watches:
            raise HTTPException(404, "there is no such model here")
        return self.watches[slug]

    def _run(self, watch: Watch, run_id: str) -> Any:
        try:
            return watch.run(run_id)
        except InputError as error:
            raise HTTPException(404, error.message) from None


def _same_origin(request: Request) -> bool:
    """Whether a form came from our own page; a browser that says nothing is a program, and brings no cookie of another."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _plain(model: ModelView) -> str:
    return model.model_dump_json(by_alias=True, exclude=HIDDEN)


def _json(text: str) -> Response:
    """JSON as the contract writes it: a figure that is no number is null."""
    return Response(text, media_type="application/json")
