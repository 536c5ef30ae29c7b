"""Small logs in public shapes, and rows of real public files: what each must give is written beside them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.access import AccessRecord
from draftsmith.traffic.importers import read_records

SHARED = Path(__file__).resolve().parents[3] / "shared"
CASES = SHARED / "cases" / "traffic"
EXPECTED: dict[str, Any] = json.loads((CASES / "EXPECTED.json").read_text()) if CASES.exists() else {"": None}
absent = pytest.mark.skipif(not CASES.exists(), reason="no shared/cases beside the repository")


def read(path: Path) -> tuple[list[AccessRecord], Counter[str]]:
    from draftsmith.contract.errors import InputError

    reasons: Counter[str] = Counter()

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] += 1

    try:
        return list(read_records([str(path)], on_skip=skip)), reasons
    except InputError:
        return [], reasons


@absent
@pytest.mark.parametrize("name", EXPECTED)
def test_a_public_shape_gives_what_it_holds(name: str) -> None:
    wanted = EXPECTED[name]
    records, reasons = read(CASES / name)
    assert len(records) == wanted["n"]
    if not records:
        assert reasons, "what gives nothing is counted"
        return
    first = records[0]
    for key, record in (("roles", first), ("roles2", records[-1])):
        if key in wanted:
            assert [message["role"] for message in record.messages or ()] == wanted[key]
    said = json.dumps(first.messages, ensure_ascii=False)
    assert wanted.get("prompt", "") in said
    assert "notprompt" not in wanted or wanted["notprompt"] not in said
    assert not [part for part in wanted.get("must", ()) if part not in (first.completion or "")]
    for key, field in (("pt", "prompt_tokens"), ("ct", "completion_tokens"), ("cached", "cached_tokens")):
        assert key not in wanted or getattr(first.usage, field) == wanted[key]
    if "lat" in wanted:
        assert first.timing is not None
        assert first.timing.latency_s == pytest.approx(wanted["lat"])
    if "ids" in wanted:
        assert [len(first.prompt_token_ids or ()), len(first.output_token_ids or ())] == wanted["ids"]
    assert "tools" not in wanted or first.params["tools"]


ATTACK = SHARED / "cases" / "attack" / "07-shapes-lose-answers"
ANSWERS: dict[str, list[str]] = {
    "anthropic_pair.jsonl": ["SYS", "hmm let me think", "4", "add"],
    "function_call_legacy.jsonl": ["add"],
    "n2.jsonl": ["FIRST"],
    "pair_stream.jsonl": ["Hello"],
    "plain_choices.jsonl": ["4"],
    "refusal.jsonl": ["I cannot do that"],
    "responses_batch_in.jsonl": ["SYSTEM PROMPT HERE"],
    "responses_batch_in2.jsonl": ["SYSTEM PROMPT HERE"],
    "responses_batch_out_tool.jsonl": ["add"],
    "responses_pair.jsonl": ["Be terse", "two and two", "4"],
    "sse.txt": ["Hello"],
}


@absent
@pytest.mark.parametrize("name", ANSWERS)
def test_a_shape_that_used_to_lose_its_answer_keeps_it(name: str) -> None:
    (record,), reasons = read(ATTACK / name)
    whole = f"{json.dumps(record.messages)} {record.completion}"
    assert not [part for part in ANSWERS[name] if part not in whole]
    assert "SECOND" not in whole
    if name == "n2.jsonl":
        assert record.usage.completion_tokens is None, "the counts are of both choices"
        assert reasons == Counter({"further choices of one request (kept the first)": 1})


@absent
def test_failed_pairs_are_counted_and_not_kept() -> None:
    records, reasons = read(ATTACK / "error_pair.jsonl")
    assert records == []
    assert reasons.total() == 6


@absent
def test_streams_that_were_mixed_are_told_apart() -> None:
    folder = SHARED / "cases" / "attack" / "05-interleaved-streams"
    records, reasons = read(folder / "interleaved8.jsonl")
    assert len(records) == 8
    assert {record.usage.completion_tokens for record in records} == {100}
    assert not reasons
    mixed, _ = read(folder / "chunks_interleaved.jsonl")
    assert {record.completion for record in mixed} == {"Hello"}
    (two,), _ = read(folder / "chunks_n2.jsonl")
    assert two.completion
    assert "B" not in two.completion


@absent
@pytest.mark.parametrize("name", ["vllm_inj.log", "vllm_inj2.log"])
def test_what_a_client_wrote_is_never_log(name: str) -> None:
    records, _ = read(SHARED / "cases" / "attack" / "06-vllm-log-injection" / name)
    assert records
    assert {tuple(record.prompt_token_ids or ()) for record in records} == {(1, 2, 3)}
    assert {record.params.get("max_tokens") for record in records} == {50}
    assert not any("min_p" in record.params or "n" in record.params for record in records)


@absent
@pytest.mark.story
@pytest.mark.parametrize(
    "name", sorted(path.name for path in (SHARED / "data").glob("*/")) if (SHARED / "data").exists() else []
)
def test_real_public_files_are_read_or_counted(name: str) -> None:
    """Not one line may vanish: a file gives records, or says why not."""
    for path in sorted((SHARED / "data" / name).iterdir()):
        if path.name in ("SOURCE.md", "LICENSE") or path.is_dir() or path.stat().st_size > 4 << 20:
            continue
        records, reasons = read(path)
        assert records or reasons, path.name
