"""The server, asked by the SDK's own client in memory and over stdio, and by FastMCP's from an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from lake_world import ROOT, bundle
from lazily import lazily

from draftsmith.api import Config
from draftsmith.contract.errors import DraftsmithError

mcp, sdk, ours = lazily("mcp"), lazily("mcp.client"), lazily("draftsmith.mcp.server")

LOOKS = {
    "doctor", "profile", "drift", "plan_dry_run", "status", "list_runs", "explain", "verify", "decide", "perf_baseline_diff",
    "lake_query", "frontier", "search_runbooks",
}  # fmt: skip
ACTS = {
    "evidence_init", "run", "perf_tune_report_report_render", "perf_tune_report_publish_to_lake", "rollback", "teardown",
    "slurm_drain", "slurm_resume", "perf_tune_report_campaign_init", "perf_tune_report_cell_run",
    "perf_tune_report_atlas_aggregate", "perf_tune_report_dcgm_correlate",
}  # fmt: skip
SKILLS = sorted((ROOT / "skills").glob("*/SKILL.md"))
FASTMCP = ROOT / ".cache" / "foreign" / "bin" / "python"


def ask(server: Any, name: str, arguments: dict[str, Any], **options: Any) -> Any:
    async def body() -> Any:
        async with sdk.Client(server) as client:
            return await client.call_tool(name, arguments, **options)

    return anyio.run(body)


def names(server: Any) -> set[str]:
    async def body() -> set[str]:
        async with sdk.Client(server) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    return anyio.run(body)


def test_nothing_that_acts_is_listed_unless_allowed(tmp_path: Path) -> None:
    config = Config(workspace=str(tmp_path))
    assert names(ours.build(config)) == LOOKS
    assert names(ours.build(config, allow_acts=True)) == LOOKS | ACTS
    refused = ask(ours.build(config), "rollback", {})
    assert refused.is_error


def test_a_bundle_is_verified_and_a_bent_one_named(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    told = ask(ours.build(Config(workspace=str(tmp_path))), "verify", {"bundle": str(made)}).structured_content
    assert told["ok"] is True
    assert (told["outcome"], told["tier"]) == ("WIN", "verdict")
    (made / "summary.md").chmod(0o600)
    (made / "summary.md").write_text("better")
    bent = ask(ours.build(Config(workspace=str(tmp_path))), "verify", {"bundle": str(made)}).structured_content
    assert bent["ok"] is False
    assert bent["wrong"] == ["summary.md was altered"]


def test_an_error_comes_back_with_its_next_step(tmp_path: Path) -> None:
    found = ask(ours.build(Config(workspace=str(tmp_path))), "explain", {})
    assert found.is_error
    assert "InputError" in found.content[0].text
    assert "next:" in found.content[0].text


def test_a_cluster_is_not_touched_without_the_acknowledgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = tmp_path / "called"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    server = ours.build(Config(workspace=str(tmp_path)), allow_acts=True)
    dry = ask(server, "slurm_drain", {"node": "n1", "reason": "window"})
    assert "RefusedError" in dry.content[0].text
    assert not called.exists()
    yes = {"reason": "window", "i_understand_this_uses_the_cluster": True}
    assert ask(server, "slurm_drain", {"node": "ALL,n[1-9]", **yes}).is_error
    assert not called.exists()
    assert not ask(server, "slurm_drain", {"node": "n1", **yes}).is_error
    assert "State=DRAIN Reason=draftsmith: window" in called.read_text()


def test_progress_is_told_while_a_profile_is_measured(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    log.write_text(
        "".join(
            json.dumps({"prompt_tokens": 90 + i, "completion_tokens": 40, "content_class": "chat"}) + "\n"
            for i in range(30)
        )
    )
    heard: list[str | None] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    server = ours.build(Config(workspace=str(tmp_path)))
    found = ask(server, "profile", {"sources": [str(log)]}, progress_callback=told)
    assert not found.is_error, found.content
    assert heard[0] == "reading the traffic"
    assert any(str(one).startswith("profile: reading") for one in heard)


LONG: dict[str, dict[str, Any]] = {
    "doctor": {}, "profile": {"sources": ["none"]}, "plan_dry_run": {"sources": ["none"]}, "verify": {"bundle": "none"},
    "decide": {"samples": "none"}, "perf_baseline_diff": {"before": "none", "after": "none"},
    "lake_query": {"at": "none", "question": "latest"}, "evidence_init": {"sources": ["none"]}, "run": {"sources": ["none"]},
    "perf_tune_report_campaign_init": {"experiment_id": "none"}, "perf_tune_report_cell_run": {},
    "perf_tune_report_atlas_aggregate": {}, "perf_tune_report_dcgm_correlate": {}, "perf_tune_report_report_render": {},
    "perf_tune_report_publish_to_lake": {"to": "none"}, "rollback": {}, "teardown": {},
}  # fmt: skip


def test_every_long_tool_tells_that_it_began_and_none_that_is_quick(tmp_path: Path) -> None:
    server = ours.build(Config(workspace=str(tmp_path)), allow_acts=True)
    quick = {"drift", "status", "list_runs", "explain", "frontier", "search_runbooks", "slurm_drain", "slurm_resume"}
    assert set(LONG) | quick == LOOKS | ACTS

    async def body() -> dict[str, list[str | None]]:
        heard: dict[str, list[str | None]] = {}
        async with sdk.Client(server) as client:
            for name, arguments in LONG.items():
                here = heard.setdefault(name, [])

                async def told(progress: float, total: float | None, message: str | None, here: Any = here) -> None:
                    here.append(message)

                await client.call_tool(name, arguments, progress_callback=told)
        return heard

    assert [name for name, said in anyio.run(body).items() if not said] == []


def test_a_tool_that_lasts_says_so_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("draftsmith.mcp.answers.BEAT_S", 0.05)
    monkeypatch.setattr("draftsmith.api.check", lambda config: time.sleep(0.3) or [])
    heard: list[str | None] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    found = ask(ours.build(Config(workspace=str(tmp_path))), "doctor", {}, progress_callback=told)
    assert found.structured_content == {"result": []}
    assert heard[0] == "looking at this machine"
    assert heard[-1] == "looking at this machine: done"
    assert heard.count("looking at this machine, for 0s") >= 2


def test_resources_are_runs_and_nothing_else_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not yours")

    async def body() -> tuple[str, list[str]]:
        failed = []
        async with sdk.Client(ours.build(Config(workspace=str(tmp_path / "w")))) as client:
            runs = (await client.read_resource("draftsmith://runs")).contents[0].text  # type: ignore[union-attr]
            for uri in ("draftsmith://runs/none/bundle/summary.md", "draftsmith://runs/x/bundle/..%2F..%2Fsecret"):
                try:
                    await client.read_resource(uri)
                except Exception as problem:
                    failed.append(str(problem))
        return runs, failed

    runs, failed = anyio.run(body)
    assert json.loads(runs) == []
    assert len(failed) == 2
    assert "not yours" not in " ".join(failed)


def test_over_stdio(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    parameters = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "draftsmith", "mcp", "--workspace", str(tmp_path / "w")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )

    async def body() -> Any:
        from mcp.client.stdio import stdio_client

        with anyio.fail_after(60):
            async with sdk.Client(stdio_client(parameters)) as client:
                return await client.call_tool("verify", {"bundle": str(made)})

    assert anyio.run(body).structured_content["ok"] is True


OTHER = """
import asyncio, json, sys
from fastmcp import Client
async def body():
    command, workspace, bundle, source = sys.argv[1:]
    server = {"mcpServers": {"d": {"command": command, "args": ["-m", "draftsmith", "mcp", "--workspace", workspace],
              "env": {"PYTHONPATH": source}}}}
    async with Client(server) as client:
        tools = [tool.name for tool in await client.list_tools()]
        told = await client.call_tool("verify", {"bundle": bundle})
        print(json.dumps({"tools": tools, "told": told.structured_content or told.data}))
asyncio.run(body())
"""


@pytest.mark.foreign
@pytest.mark.skipif(not FASTMCP.exists(), reason="no FastMCP here: .ci/foreign.sh installs it")
def test_another_client(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    asked = [str(FASTMCP), "-c", OTHER, sys.executable, str(tmp_path / "w"), str(made), str(ROOT / "src")]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["tools"]) == LOOKS
    assert found["told"]["ok"] is True


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_a_skill_names_itself_its_triggers_and_tools_that_are_there(path: Path) -> None:
    front = yaml.safe_load(path.read_text(encoding="utf-8").split("---")[1])
    assert front["name"] == path.parent.name
    asked = {tool.removeprefix("mcp__profile_and_optimize__") for tool in front["allowed-tools"]} - {"Read"}
    assert asked <= LOOKS | ACTS
    wanted = {
        "inference-spec-decode-service": (
            "spec-dec as a service",
            "fireoptimizer equivalent",
            "close the spec-decode loop",
        ),
        "inference-spec-decode-train": ("train an EAGLE3 draft", "train a DFlash head", "SpecForge for <model>"),
    }
    assert all(f'"{words}"' in front["description"] for words in wanted[front["name"]])


def test_there_are_two_skills() -> None:
    assert len(SKILLS) == 2


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"transport": "carrier-pigeon"}])
def test_the_command_refuses_the_world(options: dict[str, str]) -> None:
    from draftsmith.cli.agents import mcp

    with pytest.raises(DraftsmithError):
        mcp(**options)
