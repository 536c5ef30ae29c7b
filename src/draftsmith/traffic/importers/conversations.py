"""Conversations, a request for every answer in them: data sets (ShareGPT, LMSYS, UltraChat, MT-bench) and agents' trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import FURTHER_CHOICES, Said, answer_of
from draftsmith.traffic.importers.asking import name_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, embedded, timing
from draftsmith.traffic.importers.bodies import answer_fields, both
from draftsmith.traffic.importers.counts import usage_of
from draftsmith.traffic.importers.parts import read_messages
from draftsmith.traffic.messages import Message, Part, role_of

FURTHER_TURNS = "later turns that nobody answered (kept the first)"


def every_answer(turns: list[Message], about: Fields, lost: parts.Lost) -> Iterator[Fields | SkipError]:
    """One request for every assistant turn, as the server saw them: earlier turns are its prompt."""
    spoken = [at for at, turn in enumerate(turns) if turn.role == "assistant" and at]
    if not spoken:
        raise SkipError("conversation without an answer")
    alone = len(spoken) == 1
    name = about.get("id")
    for number, at in enumerate(spoken):
        before = turns[:at]
        fields = {**answer_fields(Said(turns[at])), **{key: value for key, value in about.items() if value is not None}}
        fields["messages"] = [item.wire() for item in before]
        if not alone:
            # Counts and times of the whole are not those of one answer.
            fields |= {
                "id": f"{name}/{number}" if name else None,
                "usage": {},
                "conversation": about.get("conversation") or name,
            }
        if number == 0:
            parts.noted(fields, lost)
        yield fields


def _arena(row: Any) -> Iterator[Fields | SkipError]:
    """LMSYS Arena: one prompt, the answers of two models; as conversations, or as lists of turns."""
    name = name_of(row.get("question_id") or row.get("conversation_id") or row.get("id"))
    held = ("conversation", "response")
    sides = [side for side in ("a", "b") if any(row.get(f"{item}_{side}") is not None for item in held)]
    if not sides:
        raise SkipError("conversation without an answer")
    for side in sides:  # one of them in a table of one side
        talk = row.get(f"conversation_{side}")
        if not isinstance(talk, list):
            asked_, answer = (embedded(row.get(key)) for key in ("prompt", f"response_{side}"))
            asked_ = asked_ if isinstance(asked_, list) else [row.get("prompt")]
            answer = answer if isinstance(answer, list) else [row.get(f"response_{side}")]
            talk = [
                {"role": role, "content": item}
                for turn in zip(asked_, answer, strict=False)
                for role, item in zip(("user", "assistant"), turn, strict=True)
            ]
        whole = {"id": f"{name}/{side}" if name else None, "model": row.get(f"model_{side}"), "conversation": talk}
        try:
            yield from _sharegpt(whole)
        except SkipError as skip:
            yield skip


_TALKS = ("conversations", "conversation", "dialog", "dialogue", "chat", "turns_list", "items")


def _talk(row: dict[str, Any]) -> list[Any] | None:
    return next((row[key] for key in _TALKS if isinstance(row.get(key), list) and row[key]), None)


def _sharegpt(row: Any) -> Iterator[Fields | SkipError]:
    lost = parts.Lost()
    turns: list[Message] = []
    talk = _talk(row) or []
    for turn in talk:
        if not isinstance(turn, dict):
            raise SkipError("conversation turn is not an object")
        lower = str(turn.get("from") or turn.get("role") or turn.get("speaker") or turn.get("user") or "").lower()
        text = turn.get("value", turn.get("content", turn.get("text")))
        if lower in ("function_call", "tool_call"):
            turns += read_messages([{"role": "assistant", "tool_calls": _called(text)}], lost)
            continue
        role = role_of(lower)
        if role is None or (text is None and not turn.get("tool_calls")):
            raise SkipError("conversation turn without speaker or text")
        turns += read_messages([{**turn, "role": role, "content": text}], lost)
    name = name_of(row.get("id") or row.get("conversation_id") or row.get("conversation_hash"))
    system = row.get("system") or row.get("system_prompt")
    if isinstance(system, str) and system and (not turns or turns[0].role != "system"):
        turns.insert(0, Message("system", (Part("text", system),)))
    answers = [
        at for at, item in enumerate(turns) if item.role == "assistant" and at and not (item.calls and not item.parts)
    ]
    if not answers:
        raise SkipError("conversation without an answer")
    for number, at in enumerate(answers):
        fields = answer_fields(Said(turns[at]))
        fields |= {"id": f"{name}/{number}" if name else None, "conversation": name, "model": name_of(row.get("model"))}
        fields["messages"] = [item.wire() for item in turns[:at]]
        if number == 0:
            parts.noted(fields, lost)
        yield fields


def _called(text: Any) -> list[Any]:
    """The calls of a turn that holds nothing else."""
    parsed = embedded(text) if isinstance(text, str) else text
    if isinstance(parsed, dict):
        return [parsed]
    return parsed if isinstance(parsed, list) else [{"name": "unknown", "arguments": text}]


def _is_sharegpt(row: Any) -> bool:
    talk = _talk(row)
    if talk is None or not isinstance(talk[0], dict):
        return "conversations" in row and isinstance(row["conversations"], list)
    return bool({"from", "role", "speaker", "user"} & talk[0].keys())


def _turns(row: Any) -> Iterator[Fields]:
    """MT-bench questions: what a user says turn by turn. Only the first can be asked before the others are answered."""
    turns = row["turns"]
    lost = parts.Lost()
    lost[FURTHER_TURNS] += len(turns) > 1
    fields = both(turns[0], None, lost)
    yield {**fields, "id": name_of(row.get("question_id") or row.get("id")), "route": name_of(row.get("category"))}


def _alternating(row: Any) -> Iterator[Fields | SkipError]:
    """UltraChat: user and assistant by turns."""
    turns = [Message("assistant" if at % 2 else "user", (Part("text", text),)) for at, text in enumerate(row["data"])]
    yield from every_answer(turns, {"id": name_of(row.get("id")), "conversation": None}, parts.Lost())


def _atif(row: Any) -> Iterator[Fields | SkipError]:
    """Trajectories of agents: steps of a user, an agent, and what its calls gave."""
    lost = parts.Lost()
    turns: list[Message] = []
    name = name_of(row.get("session_id"))
    agent = row.get("agent")
    model = name_of(agent.get("model_name")) if isinstance(agent, dict) else None
    made, before = 0, None
    for step in row["steps"]:
        source = str(step.get("source") or "")
        if source == "agent":
            calls = [
                {
                    "id": entry.get("tool_call_id"),
                    "name": entry.get("function_name"),
                    "arguments": entry.get("arguments"),
                }
                for entry in step.get("tool_calls") or ()
            ]
            message = read_messages(
                [
                    {
                        "role": "assistant",
                        "content": step.get("message") or "",
                        "reasoning_content": step.get("reasoning_content"),
                        "tool_calls": calls,
                    }
                ],
                lost,
            )[0]
            if turns:
                metrics = step.get("metrics")
                fields = answer_fields(Said(message, usage=usage_of(metrics)))
                fields |= {
                    "id": f"{name}/{made}" if name else None,
                    "conversation": name,
                    "model": name_of(step.get("model_name")) or model,
                }
                fields |= {
                    "messages": [turn.wire() for turn in turns],
                    "timing": timing(before, end=step.get("timestamp")),
                }
                made += 1
                yield fields
            turns.append(message)
            results = step.get("observation")
            for item in (results.get("results") or ()) if isinstance(results, dict) else ():
                turns += read_messages(
                    [
                        {
                            "role": "tool",
                            "tool_call_id": item.get("source_call_id"),
                            "content": item.get("content") or "",
                        }
                    ],
                    lost,
                )
        elif role_of(source):
            turns += read_messages([{"role": source, "content": step.get("message") or ""}], lost)
        before = step.get("timestamp")
    if not made:
        raise SkipError("conversation without an answer")


ARENA = Importer(
    "arena",
    lambda row: "conversation_a" in row or ("response_a" in row and "response_b" in row and "prompt" in row),
    _arena,
    lacks=("arrivals", "latency", "parameters"),
    what="LMSYS Arena: the answers of two models to one prompt, each a request",
    marks=("model_a", "model_b", "conversation_a", "conversation_b", "winner"),
)


SHAREGPT = Importer(
    "sharegpt",
    _is_sharegpt,
    _sharegpt,
    lacks=("arrivals", "latency", "parameters"),
    what="`{conversations}` or `{conversation}` (ShareGPT, WildChat, LMSYS): a request for every answer",
    marks=("conversations", "conversation", "from", "value", "conversation_id"),
)


def _bench_answers(row: Any) -> Iterator[Fields]:
    """Answers to MT-bench: those of all turns, an answer each."""
    name = name_of(row.get("question_id"))
    for choice in row["choices"][:1]:
        for at, answer in enumerate(choice["turns"]):
            lost = parts.Lost()
            lost[FURTHER_CHOICES] += len(row["choices"]) > 1 and at == 0
            fields = answer_fields(answer_of(answer, lost))
            parts.noted(fields, lost)
            model = name_of(row.get("model_id"))
            yield {
                **fields,
                "id": f"{name_of(row.get('answer_id')) or name}/{at}",
                "conversation": name,
                "model": model,
            }


def _is_bench_answer(row: dict[str, Any]) -> bool:
    choices = row.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return "question_id" in row and isinstance(first, dict) and isinstance(first.get("turns"), list)


MT_ANSWERS = Importer(
    "mt-bench-answers",
    _is_bench_answer,
    _bench_answers,
    lacks=("prompts", "parameters", "arrivals", "latency", "counts"),
    what="answers to MT-bench: the text of every turn",
    marks=("question_id", "answer_id", "model_id", "choices"),
)
MT_BENCH = Importer(
    "mt-bench",
    lambda row: (
        isinstance(row.get("turns"), list)
        and bool(row["turns"])
        and all(isinstance(item, str) for item in row["turns"])
    ),
    _turns,
    lacks=("answers", "arrivals", "latency", "parameters"),
    what="questions with `turns`; only the first turn can be asked",
    marks=("question_id", "category", "turns"),
)


ULTRACHAT = Importer(
    "ultrachat",
    lambda row: (
        isinstance(row.get("data"), list)
        and len(row["data"]) > 1
        and all(isinstance(item, str) for item in row["data"])
    ),
    _alternating,
    lacks=("arrivals", "latency", "parameters"),
    what="`{data: [user, assistant, ...]}`",
    marks=("data",),
)


ATIF = Importer(
    "atif",
    lambda row: isinstance(row.get("steps"), list) and str(row.get("schema_version") or "").startswith("ATIF"),
    _atif,
    lacks=("parameters", "tools"),
    what="trajectories of agents (ATIF): a request for every step of the agent",
    marks=("schema_version", "session_id", "agent", "steps"),
)
