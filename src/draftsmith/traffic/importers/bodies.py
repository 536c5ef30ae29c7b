"""A request and its answer, each in any dialect, as the fields of one record."""

from __future__ import annotations

import json
import re
from typing import Any

from draftsmith.traffic.importers.answering import FAILED, Said, answer_of
from draftsmith.traffic.importers.asking import Asked, name_of, prompt_of
from draftsmith.traffic.importers.base import Fields, embedded, timing
from draftsmith.traffic.importers.parameters import asked
from draftsmith.traffic.importers.parts import Lost, noted

__all__ = ["FAILED", "answer_fields", "both", "name_of", "request_fields"]

MEDIA = "image, audio or file in the prompt"
"""Why a record is no text: it is read and flagged (`media`), and left out of everything that counts or posts text."""
MEDIA_SAID = "image or audio in the answer (left out)"
CUT = "body that the log cut off (kept for its counts)"
# Models and users write much JSON, and an answer may end in the middle of it: only what certainly begins a body is read as a body.
_ASKED = re.compile(r'\s*\{\s*"(?:messages|model|contents|anthropic_version)"\s*:')
_SAID = re.compile(
    r'\s*\{\s*"(?:(?:choices|candidates)"\s*:\s*\[|object"\s*:\s*"(?:chat\.|text_|resp)|id"\s*:\s*"(?:chatcmpl|cmpl|resp|msg)[-_])'
)


def request_fields(asked_: Asked) -> Fields:
    """The fields of a record that come from its request."""
    fields: Fields = {"params": asked_.params, "model": asked_.model}
    if asked_.ids is not None:
        fields["prompt_token_ids"] = asked_.ids
    fields["messages"] = [
        message.wire() for message in asked_.messages if not message.empty or message.role != "assistant"
    ] or None
    return fields


def answer_fields(answer: Said) -> Fields:
    """The fields of a record that come from its answer; those it does not hold are left out."""
    fields: Fields = {}
    message = answer.message
    if message is not None:
        fields["completion"] = message.joined()
        if message.reasoning or message.calls or message.refusal:
            fields["answer"] = {
                "text": message.text or None,
                "reasoning": message.reasoning or None,
                "calls": [{"name": call.name, "arguments": call.arguments, "id": call.id} for call in message.calls],
                "refusal": message.refusal or None,
            }
    usage = dict(answer.usage)
    if answer.choices > 1:
        usage["completion_tokens"] = None  # they are of all choices, the text is of one
    fields["usage"] = usage
    for key, value in (("finish_reason", answer.finish), ("output_token_ids", answer.ids), ("prompt_token_ids", answer.prompt_ids),
                       ("model", answer.model), ("id", answer.id)):  # fmt: skip
        if value is not None:
            fields[key] = value
    if answer.created is not None:
        fields["timing"] = timing(answer.created)
    return fields


def both(request: Any, response: Any, lost: Lost) -> Fields:
    """The fields of a request and its answer, each in any dialect."""
    request, response = _whole(request, _ASKED, lost), _whole(response, _SAID, lost)
    fields = request_fields(prompt_of(request, lost))
    asked_model, prompt_ids = fields.get("model"), fields.get("prompt_token_ids")
    answer = answer_of(response, lost)
    if answer.message is not None and answer.message.media:
        lost[MEDIA_SAID] += 1
    fields |= answer_fields(answer)
    _repeated(fields, response)
    fields["model"] = fields.get("model") or asked_model
    if prompt_ids is not None:
        fields["prompt_token_ids"] = prompt_ids
    noted(fields, lost)
    return fields


def _repeated(fields: Fields, response: Any) -> None:
    """The tools that an answer of the Responses API repeats, where its request was logged without them."""
    body = embedded(response) if isinstance(response, str) and response.lstrip()[:1] == "{" else response
    if not isinstance(body, dict) or body.get("object") != "response":
        return
    asked_ = asked(body)
    fields["params"] = {key: asked_[key] for key in ("tools", "tool_choice") if key in asked_} | fields["params"]


def _whole(body: Any, begins: re.Pattern[str], lost: Lost) -> Any:
    """A body as it was logged; None for JSON that breaks off, which is no text of anybody's."""
    if not isinstance(body, str) or not begins.match(body) or embedded(body) is not None:
        return body
    try:
        json.JSONDecoder().raw_decode(body.lstrip())
    except (ValueError, RecursionError):
        lost[CUT] += 1
        return None
    return body  # whole JSON with text behind it was written by somebody
