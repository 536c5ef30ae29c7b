"""A request and its answer, each in any dialect, as the fields of one record."""

from __future__ import annotations

import re
from typing import Any

from draftsmith.traffic.importers.answering import FAILED, Said, answer_of
from draftsmith.traffic.importers.asking import Asked, name_of, prompt_of
from draftsmith.traffic.importers.base import Fields, SkipError, embedded, timing
from draftsmith.traffic.importers.parts import Lost, noted

__all__ = ["FAILED", "answer_fields", "both", "name_of", "request_fields"]

MEDIA = "image, audio or file in the prompt"
MEDIA_SAID = "image or audio in the answer (left out)"
CUT = "body that the log cut off (kept for its counts)"
# Keys that begin the bodies of every dialect. A text of a user's that begins like one is rare, a body cut by a gateway is not.
_BODY = re.compile(
    r'\s*[{\[][\s{]*"(?:messages|model|prompt|input|contents|choices|candidates|object|id|output|role|anthropic_version|created)"\s*:'
)


def request_fields(asked_: Asked) -> Fields:
    """The fields of a record that come from its request."""
    if any(message.media for message in asked_.messages):
        raise SkipError(MEDIA)
    fields: Fields = {"params": asked_.params, "model": asked_.model}
    if asked_.ids is not None:
        fields["prompt_token_ids"] = asked_.ids
    fields["messages"] = [
        message.wire() for message in asked_.messages if not message.empty or message.role != "assistant"
    ] or None
    return fields


def answer_fields(said: Said) -> Fields:
    """The fields of a record that come from its answer; those it does not hold are left out."""
    fields: Fields = {}
    message = said.message
    if message is not None:
        fields["completion"] = message.joined()
        if message.reasoning or message.calls or message.refusal:
            fields["answer"] = {
                "text": message.text or None,
                "reasoning": message.reasoning or None,
                "calls": [{"name": one.name, "arguments": one.arguments, "id": one.id} for one in message.calls],
                "refusal": message.refusal or None,
            }
    usage = dict(said.usage)
    if said.choices > 1:
        usage["completion_tokens"] = None  # they are of all choices, the text is of one
    fields["usage"] = usage
    for key, value in (("finish_reason", said.finish), ("output_token_ids", said.ids), ("prompt_token_ids", said.prompt_ids),
                       ("model", said.model), ("id", said.id)):  # fmt: skip
        if value is not None:
            fields[key] = value
    if said.created is not None:
        fields["timing"] = timing(said.created)
    return fields


def both(request: Any, response: Any, lost: Lost) -> Fields:
    """The fields of a request and its answer, each in any dialect."""
    request, response = _whole(request, lost), _whole(response, lost)
    fields = request_fields(prompt_of(request, lost))
    asked_model, prompt_ids = fields.get("model"), fields.get("prompt_token_ids")
    said = answer_of(response, lost)
    if said.message is not None and said.message.media:
        lost[MEDIA_SAID] += 1
    fields |= answer_fields(said)
    fields["model"] = fields.get("model") or asked_model
    if prompt_ids is not None:
        fields["prompt_token_ids"] = prompt_ids
    noted(fields, lost)
    return fields


def _whole(body: Any, lost: Lost) -> Any:
    """A body as it was logged; None for JSON that breaks off, which is no text of anybody's."""
    if isinstance(body, str) and _BODY.match(body) and embedded(body) is None:
        lost[CUT] += 1
        return None
    return body
