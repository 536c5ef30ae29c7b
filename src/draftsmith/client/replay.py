"""Replaying prompts against an OpenAI-compatible server, and recording exactly what came back.

Closed loop: a fixed number of requests in flight. Open loop: each request at its recorded arrival time. Answers are
streamed; TTFT is the first chunk that carries tokens, latency the last one. Token counts are the engine's own. Memory
holds the requests in flight and nothing else: results leave through a callback as they finish.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import httpx
import orjson

from draftsmith.contract.access import AccessRecord, Timing
from draftsmith.contract.errors import EngineLostError, InputError
from draftsmith.contract.wire import EventStream, StreamedAnswer
from draftsmith.kit.certificates import trusted

RETRIES = 3
BACKOFF_S = 1.0  # before the first retry, doubled for each further one
UNLESS_SAID: dict[str, Any] = {"temperature": 0}  # a request that says nothing of its sampling is answered greedily
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
LAG_EVERY_S = 0.02  # how often the client looks whether its own timer comes late
TOKEN_IDS = "return_token_ids"
FATAL_AFTER = 8  # connection failures in a row before the server counts as gone


@dataclass(frozen=True)
class Request:
    """One prompt to send. Without messages, `prompt_token_ids` go to the completions endpoint as they are."""

    id: str
    messages: list[dict[str, Any]] | None = None
    prompt_token_ids: list[int] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    arrival_s: float | None = None
    conversation: str | None = None
    route: str | None = None


@dataclass(frozen=True)
class Target:
    """Where requests go. `extra` is merged into each body (for example `kv_transfer_params`), and wins.

    `token_ids`: ask for the ids of answers; a server that refuses that for a streamed answer is asked without.
    `again`: a request that was refused or cut off is sent again. Off where that is part of what is measured.
    """

    endpoint: str
    model: str
    api_key: str | None = None
    timeout_s: float = 600.0
    token_ids: bool = True
    stream: bool = True
    again: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """Absolute URL of an API path; the endpoint may be given with or without /v1."""
        base = self.endpoint.rstrip("/")
        return f"{base if base.endswith('/v1') else base + '/v1'}/{path}"


@dataclass(frozen=True)
class Reply:
    """The record of one request, and the raw `kv_transfer_params` and `prompt_logprobs` of its response, if any."""

    record: AccessRecord
    transfer: dict[str, Any] | None = None
    prompt_logprobs: list[Any] | None = None


@dataclass
class Pacing:
    """How requests are released. `rate_scale` 2 replays recorded arrivals twice as fast."""

    concurrency: int = 1
    open_loop: bool = False
    rate_scale: float = 1.0


class Replayed(NamedTuple):
    """`peak`: most requests in flight at once. `lag_s`: the longest time by which this client's own timer came late."""

    wall_s: float
    peak: int
    lag_s: float = 0.0


def served_model(endpoint: str, api_key: str | None = None) -> str:
    """Name of the first model the server lists. Raises InputError if it cannot be asked."""
    url = Target(endpoint, "").url("models")
    try:
        answer = httpx.get(url, headers=_headers(api_key), timeout=20, verify=trusted(environment=True))
        answer.raise_for_status()
        return str(answer.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise InputError(
            f"{url} does not list its models ({type(error).__name__})",
            "check --endpoint, or name the model with --model",
        ) from None


def replay(requests: Iterable[Request], target: Target, pacing: Pacing, on_reply: Callable[[Reply], None]) -> Replayed:
    """Send all requests. Failed requests are replies with an error.

    Raises EngineLostError if the server cannot be reached any more.
    """
    try:
        return asyncio.run(_replay(iter(requests), target, pacing, on_reply))
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    """The first single error of a group: every request that fails beside it fails for the same reason."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _replay(
    requests: Iterator[Request], target: Target, pacing: Pacing, on_reply: Callable[[Reply], None]
) -> Replayed:
    limit = max(pacing.concurrency, 1)
    pool = httpx.Limits(max_connections=None if pacing.open_loop else limit, max_keepalive_connections=limit)
    state = _State()
    async with httpx.AsyncClient(
        timeout=target.timeout_s, limits=pool, headers=_headers(target.api_key), verify=trusted(environment=True)
    ) as client:
        began = time.monotonic()

        async def one(request: Request) -> None:
            state.enter()
            try:
                on_reply(await _send(client, request, target, state))
            finally:
                state.leave()

        async def worker() -> None:
            for request in requests:
                await one(request)

        watch = asyncio.create_task(_watch_lag(state))
        try:
            async with asyncio.TaskGroup() as group:
                if pacing.open_loop:
                    for request in requests:
                        due = began + (request.arrival_s or 0.0) / pacing.rate_scale
                        await asyncio.sleep(max(0.0, due - time.monotonic()))
                        state.late(due)
                        group.create_task(one(request))
                else:
                    for _ in range(limit):
                        group.create_task(worker())
        finally:
            watch.cancel()
    return Replayed(time.monotonic() - began, state.peak, state.lag_s)


async def _watch_lag(state: _State) -> None:
    """First tokens and ends are stamped by this loop: when its own timer is late, so may they be."""
    while True:
        due = time.monotonic() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        state.late(due)


@dataclass
class _State:
    in_flight: int = 0
    peak: int = 0
    refused: int = 0
    lag_s: float = 0.0
    no_ids: bool = False  # the server hands out no token ids of streamed answers

    def late(self, due: float) -> None:
        """It should have been `due` (monotonic) at this moment."""
        self.lag_s = max(self.lag_s, time.monotonic() - due)

    def enter(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def leave(self) -> None:
        self.in_flight -= 1


async def _send(client: httpx.AsyncClient, request: Request, target: Target, state: _State) -> Reply:
    error = "unknown"
    for attempt in range(RETRIES + 1):
        if attempt:
            await asyncio.sleep(BACKOFF_S * 2 ** (attempt - 1))
        try:
            reply = await _once(client, request, target, state)
            state.refused = 0
            return reply
        except _HttpError as failure:
            state.refused = 0
            error = f"http_{failure.status}"
            if failure.status not in RETRY_STATUS or not target.again:
                break
        except httpx.TimeoutException:
            error = "timeout"
            break
        except httpx.TransportError as failure:
            error = f"connection_{type(failure).__name__}"
            state.refused += 1
            if state.refused >= FATAL_AFTER:
                raise EngineLostError(
                    f"the server at {target.endpoint} went away",
                    "look at its log, start it again and rerun: it resumes",
                ) from None
            if not target.again and not isinstance(failure, httpx.ConnectError):
                break  # a refused connection says nothing about an answer, so the request is sent again in any case
        except ValueError:
            error = "malformed_response"
            break
    record = AccessRecord(
        id=request.id,
        conversation=request.conversation,
        model=target.model,
        route=request.route,
        messages=request.messages,
        params=_logged_params(request),
        timing=Timing(start_unix_s=time.time()),
        error=error,
    )
    return Reply(record)


class _HttpError(Exception):
    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(str(status))
        self.status, self.text = status, text


async def _once(client: httpx.AsyncClient, request: Request, target: Target, state: _State) -> Reply:
    """One attempt. SGLang refuses a streamed chat request that asks for token ids: it is then sent without, and so are the next."""
    asks = target.token_ids and not state.no_ids
    try:
        return await _stream(client, request, replace(target, token_ids=asks))
    except _HttpError as failure:
        if not asks or failure.status != httpx.codes.BAD_REQUEST or TOKEN_IDS not in failure.text:
            raise
    state.no_ids = True
    return await _stream(client, request, replace(target, token_ids=False))


async def _stream(client: httpx.AsyncClient, request: Request, target: Target) -> Reply:
    path, body = _body(request, target)
    start_unix, start = time.time(), time.monotonic()
    answer = StreamedAnswer()
    async with client.stream("POST", target.url(path), content=orjson.dumps(body)) as response:
        if response.status_code != httpx.codes.OK:
            raise _HttpError(response.status_code, (await response.aread()).decode(errors="replace"))
        if target.stream:
            async for payload in _payloads(response):
                seconds = time.monotonic() - start
                answer.add(_event(payload), seconds)
        else:
            answer.add_whole(_event(await response.aread()), time.monotonic() - start)
    choice = answer.first
    if answer.failed:
        raise ValueError("the server reported an error in its answer")
    if choice.finish is None:
        raise httpx.RemoteProtocolError("the stream ended before the answer did")
    record = AccessRecord(
        id=request.id,
        conversation=request.conversation,
        model=target.model,
        route=request.route,
        messages=request.messages,
        completion=choice.text(),
        answer=choice.parts(),
        params=_logged_params(request),
        prompt_token_ids=answer.prompt_ids or request.prompt_token_ids,
        output_token_ids=choice.token_ids or None,
        usage=answer.usage_of_first(),
        timing=Timing(start_unix_s=start_unix, ttft_s=choice.first_s, latency_s=choice.last_s),
        finish_reason=choice.finish,
        spec=answer.spec_of_first(),
    )
    return Reply(record, answer.transfer, answer.prompt_logprobs)


def _event(payload: bytes) -> dict[str, Any]:
    """The payload as an object. Raises ValueError for anything else."""
    value = orjson.loads(payload)
    if not isinstance(value, dict):
        raise ValueError("an event that is no JSON object")
    return value


async def _payloads(response: httpx.Response) -> AsyncIterator[bytes]:
    events = EventStream()
    async for data in response.aiter_bytes():
        for payload in events.add(data):
            yield payload
    for payload in events.end():
        yield payload


def _body(request: Request, target: Target) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = UNLESS_SAID | request.params
    body |= {"model": target.model, "stream": target.stream} | ({TOKEN_IDS: True} if target.token_ids else {})
    body |= target.extra
    if target.stream:
        body["stream_options"] = {"include_usage": True}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.messages is not None:
        return "chat/completions", body | {"messages": request.messages}
    if request.prompt_token_ids is None:
        raise InputError(
            f"prompt {request.id} has neither messages nor token ids", "give one of them in the prompts file"
        )
    return "completions", body | {"prompt": request.prompt_token_ids}


def _logged_params(request: Request) -> dict[str, Any]:
    """As sent: that an answer was greedy by default can be told later only if it is written down now."""
    limit = {"max_tokens": request.max_tokens} if request.max_tokens is not None else {}
    return UNLESS_SAID | request.params | limit


def _headers(api_key: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    return headers | ({"authorization": f"Bearer {api_key}"} if api_key else {})
