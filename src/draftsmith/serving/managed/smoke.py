"""A few requests that an engine answers before live traffic reaches it: they warm it up and show that it works."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from draftsmith.contract.errors import EngineError

PROMPTS = ("Say hello.", "Count from one to ten.", "Name three colours.", "Write one sentence about the sea.")
TOKENS = 24
TIMEOUT_S = 120.0


def smoke(url: str, model: str, requests: int) -> None:
    """Ask `requests` times, a few at once. Raises EngineError with the first answer that is none."""

    def ask(number: int) -> None:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
            "max_tokens": TOKENS,
            "temperature": 0.0,
        }
        try:
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=TIMEOUT_S, trust_env=False)
        except httpx.HTTPError as error:
            raise EngineError(
                f"a new engine does not answer ({type(error).__name__})", "see the engine's log"
            ) from None
        if answer.status_code != httpx.codes.OK:
            raise EngineError(f"a new engine answers with status {answer.status_code}", "see the engine's log")
        try:
            tokens = answer.json()["usage"]["completion_tokens"]
        except (ValueError, KeyError, TypeError):
            tokens = 0
        if not tokens:
            raise EngineError("a new engine answers without a token", "see the engine's log")

    with ThreadPoolExecutor(min(4, requests)) as pool:
        list(pool.map(ask, range(requests)))
