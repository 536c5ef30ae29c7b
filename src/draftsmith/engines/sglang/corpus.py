"""Earlier answers, given to a running SGLang server as an external corpus of its n-gram drafts."""

from __future__ import annotations

from pathlib import Path

import httpx

from draftsmith.contract.errors import EngineError, EngineLostError
from draftsmith.engines.earlier_answers import earlier_answers
from draftsmith.kit.certificates import trusted

PATH, NAME = "/add_external_corpus", "draftsmith"
TIMEOUT_S = 600.0  # the server tokenises the answers and builds an automaton of them before it replies
NEXT_STEP = (
    "look at the server's log; it wants the method ngram, and ngram_external_corpus_max_tokens bounds the corpus"
)


def load(url: str, file: Path) -> int:
    """Give the answers in `file` to the server at `url`; returns the tokens that it took.

    Raises InputError for a file that holds none, EngineError if the server refuses them, EngineLostError if it does not answer.
    """
    body = {"corpus_id": NAME, "documents": list(earlier_answers(file).documents)}
    try:
        reply = httpx.post(f"{url}{PATH}", json=body, timeout=TIMEOUT_S, trust_env=False, verify=trusted())
    except httpx.HTTPError as error:
        raise EngineLostError(f"{url} does not take a corpus ({type(error).__name__})", NEXT_STEP) from None
    try:
        message = reply.json()
    except ValueError:
        message = {}
    tokens = message.get("loaded_token_count") if isinstance(message, dict) else None
    if reply.status_code != httpx.codes.OK or not tokens:
        why = message.get("message") if isinstance(message, dict) else None
        raise EngineError(f"the corpus {file.name} was not loaded: {why or f'status {reply.status_code}'}", NEXT_STEP)
    return int(tokens)
