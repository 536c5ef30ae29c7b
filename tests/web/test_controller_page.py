"""The page inside a real controller, in a real browser: a proposal approved there, the run that follows, and a rollback.

Everything real but engine and trainer. With DRAFTSMITH_SCREENSHOTS=docs/images its pictures of docs/watching.md are made anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from loop_world import LENIENT, World

pytestmark = [pytest.mark.story, pytest.mark.timed]

TOKEN = "a-token-for-tests-only"
PICTURES = os.environ.get("DRAFTSMITH_SCREENSHOTS")
LONG_MS = 240_000  # of a machine that is busy with other things; alone it is a tenth
VERDICT: dict[str, Any] = {
    "blocks": 3, "prompts": 7, "general_prompts": 14,
    "thresholds": LENIENT | {"max_blocks": 4, "false_promotion": 0.2, "confidence": 0.8},
}  # fmt: skip
CONTROLLER = {"mode": "propose", "every_s": 0.2, "min_requests": 40, "min_free_gib": 0.1, "window_s": 5}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_an_operator_sees_a_service_through_its_first_draft(browser: Any, world: World) -> None:
    token = world.base / "web.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    world.configure(compare=VERDICT, controller=CONTROLLER)
    running = world.start(
        "controller", "--listen", "127.0.0.1:0", "--token-file", str(token), FAKE_VLLM='{"step_ms": 12}'
    )
    try:
        assert running.stdout is not None
        url = next(found[0] for line in running.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        page = browser.new_context(base_url=url, viewport={"width": 1100, "height": 900}).new_page()
        page.set_default_timeout(LONG_MS)
        page.goto("/login")
        page.get_by_label("token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="target", exact=True).click()
        page.evaluate("window.kept = true")  # gone if the page is ever loaded again
        page.get_by_role("heading", name="Waits for a yes: start run").wait_for()
        page.locator("#because-approve").fill("the first one")
        page.get_by_role("button", name="Approve").click()
        page.evaluate("window.kept = true")
        page.get_by_text("an operator said yes to start run: the first one").first.wait_for()
        page.get_by_role("heading", name="In progress").wait_for()
        shown = page.locator("progress").first
        shown.wait_for()
        assert "target" in page.title()
        if PICTURES:
            page.screenshot(path=str(Path(PICTURES) / "web-run.png"))
        page.get_by_role("heading", name="Waits for a yes: promote").wait_for()
        assert page.evaluate("window.kept"), "all this without a reload"
        assert page.get_by_text("WIN").count()
        assert page.get_by_text("tier verdict").count()
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("eagle3, 3 tokens, draft").first.wait_for()
        assert world.standing()["method"] == "eagle3"
        if PICTURES:
            page.screenshot(path=str(Path(PICTURES) / "web-controller.png"), full_page=True)
        page.get_by_role("link", name=re.compile("target-")).first.click()
        page.get_by_role("link", name="the report").click()
        assert page.get_by_text("tier verdict").count()
        page.goto("/models/target")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Resume").wait_for()
        page.get_by_role("button", name="Roll back").click()
        page.get_by_text("rolled back: no speculation serves").wait_for()
        assert world.standing() is None
        page.context.close()  # a browser that goes away
        assert httpx.get(f"{url}/api/models/target").json()["controller"]["alive"] is True
    finally:
        running.terminate()
        running.communicate(timeout=60)
