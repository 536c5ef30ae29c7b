"""Over streamable HTTP, against the command in a process of its own: the SDK's client, a client of nobody's SDK, and a hostile page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from agent_world import workspace_with_a_run
from mcp.client import Client

from draftsmith.store.runs import Store

ROOT = Path(__file__).parents[2]
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class Service:
    def __init__(self, url: str, workspace: Path, log: Path) -> None:
        self.url, self.workspace, self.log = url, workspace, log


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    base = tmp_path_factory.mktemp("mcp")
    target, log, python = workspace_with_a_run(base)
    words = [
        sys.executable,
        "-m",
        "draftsmith",
        "mcp",
        "--transport",
        "http",
        "--port",
        "0",
        "--workspace",
        str(base / "w"),
    ]
    words += [
        "--target",
        str(target),
        "--set",
        f"engine.python={json.dumps(python)}",
        "--set",
        "engine.max_model_len=512",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    server = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert line.startswith("mcp      http://127.0.0.1:"), line
        yield Service(line.split()[1], base / "w", log)
    finally:
        server.terminate()
        server.wait(20)
        if server.stderr:
            server.stderr.close()


def test_an_agents_session_without_a_document(service: Service) -> None:
    """Only what the server itself says: its instructions, its tools and their answers."""
    heard: list[str] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append(str(message))

    async def body() -> dict[str, Any]:
        found: dict[str, Any] = {}
        with anyio.fail_after(120):
            async with Client(service.url) as client:
                assert "Look first" in str(client.instructions)
                tools = {tool.name: tool for tool in (await client.list_tools()).tools}
                assert all(tool.description and len(tool.description) > 20 for tool in tools.values())

                async def ask(name: str, **arguments: Any) -> Any:
                    assert set(arguments) <= set(tools[name].input_schema["properties"])
                    answer = await client.call_tool(name, arguments, progress_callback=told)
                    assert not answer.is_error, (name, answer.content)
                    return answer.structured_content

                found["profile"] = await ask("profile", sources=[str(service.log)])
                found["plan"] = await ask("plan_dry_run", sources=[str(service.log)])
                found["status"] = await ask("status")
                run_id = found["status"]["run"]["run_id"]
                found["explain"] = await ask("explain", run_id=run_id)
                bundle = next(Store(service.workspace).get(run_id).folder.glob("bundle/*/*"))
                found["verify"] = await ask("verify", bundle=str(bundle))
                found["frontier"] = await ask("frontier")
                found["runbooks"] = await ask("search_runbooks", query="DraftsmithFallback")
                report = await client.read_resource(f"draftsmith://runs/{run_id}/report")
                found["report"] = report.contents[0].text  # type: ignore[union-attr]
                verdict = await client.read_resource(f"draftsmith://runs/{run_id}/bundle/verdict.json")
                found["verdict"] = json.loads(verdict.contents[0].text)  # type: ignore[union-attr]
        return found

    found = anyio.run(body)
    assert found["profile"]["n_requests"] == 40
    assert found["plan"]["starts"] >= 2
    assert found["plan"]["seconds"] > 0
    assert found["status"]["run"]["verdict"]["outcome"] == "WIN"
    assert found["explain"]["decision"]["outcome"] == found["verdict"]["outcome"] == found["verify"]["outcome"]
    assert found["verify"]["ok"] is True
    assert found["runbooks"]["result"][0]["name"] == "fallback"
    assert "<html" in found["report"]
    assert heard[0] == "reading the traffic"
    assert {"reading the traffic: done", "planning: done", "verifying the bundle: done"} <= set(heard)


def test_a_client_without_the_sdk(service: Service) -> None:
    """JSON-RPC over plain HTTP, by the letter of the specification: initialize, a session, tools, a call."""
    with httpx.Client(headers=ACCEPT, timeout=60) as client:

        def send(body: dict[str, Any], **headers: str) -> httpx.Response:
            return client.post(service.url, json={"jsonrpc": "2.0", **body}, headers=headers)

        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bare", "version": "1"}}
        begun = send({"id": 1, "method": "initialize", "params": hello})
        session = {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        assert answer(begun)["serverInfo"]["name"] == "profile_and_optimize"
        assert send({"method": "notifications/initialized"}, **session).status_code == 202
        listed = answer(send({"id": 2, "method": "tools/list"}, **session))["tools"]
        assert "rollback" not in {tool["name"] for tool in listed}, "nothing that acts, unless it was started so"
        call = {"name": "status", "arguments": {}, "_meta": {"progressToken": "p"}}
        told = answer(send({"id": 3, "method": "tools/call", "params": call}, **session))
        assert told["structuredContent"]["run"]["verdict"]["tier"] == "verdict"
        acted = answer(
            send({"id": 4, "method": "tools/call", "params": {"name": "rollback", "arguments": {}}}, **session), True
        )
        assert "rollback" in json.dumps(acted)
        assert client.delete(service.url, headers=session).status_code == 200


def answer(response: httpx.Response, wrong: bool = False) -> dict[str, Any]:
    """The message with a result, from JSON or from a stream of events."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("application/json"):
        messages = [response.json()]
    else:
        messages = [
            json.loads(line[5:]) for line in response.text.splitlines() if line.startswith("data:") and line[5:].strip()
        ]
    last: dict[str, Any] = next(one for one in messages if "id" in one)
    if wrong:
        return last
    found: dict[str, Any] = last["result"]
    return found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"host": "127.0.0.1.evil.example:80"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_a_page_of_another_site_reaches_nothing(service: Service, headers: dict[str, str], status: int) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    with httpx.Client(headers=ACCEPT, timeout=30) as client:
        refused = client.post(service.url, json=body, headers=headers)
        assert refused.status_code == status
        assert "mcp-session-id" not in refused.headers
        own = service.url.rsplit("/", 1)[0]
        assert client.post(service.url, json=body, headers={"origin": own}).status_code == 200
