"""A log goes in, a profile comes out: what it says is true, and what the log cannot tell it says is not available."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.profiling import profile as profile_module
from draftsmith.profiling.profile import build_profile
from draftsmith.profiling.summary import lines, render
from draftsmith.traffic.tokens import load_counter

from .conftest import request

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "please",
    "answer",
    "how",
    "many",
    "apples",
    "there",
    "are",
]


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def log(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        messages = [{"role": "user", "content": prose(rng, int(rng.lognormvariate(3.5, 0.8)) + 3)}]
        rows.append(request(n, prose(rng, int(rng.lognormvariate(4.2, 0.7)) + 3), messages=messages))
    return rows


def test_token_counts_are_those_of_the_tokenizer(write: Any, tokenizer: Path) -> None:
    rows = log(300)
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    counter = load_counter(tokenizer)
    encode = counter.tokenizer.encode
    lengths = sorted(len(encode(row["completion"])) for row in rows)
    prompts = [f"<|start|>user\n{row['messages'][0]['content']}<|end|>\n<|start|>assistant\n" for row in rows]
    assert found.token_counts == "exact"
    assert found.output_tokens.p50 == lengths[149]
    assert found.output_tokens.p99 == lengths[296]
    assert found.input_tokens.mean == pytest.approx(sum(len(encode(one)) for one in prompts) / 300)
    assert found.isl_buckets
    assert sum(one.share for one in found.isl_buckets) == pytest.approx(1)
    assert sum(one.weight for one in found.bench_shapes) == pytest.approx(1)


@pytest.mark.story
def test_an_estimate_is_within_a_hundredth_of_the_count(
    write: Any, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_module, "COUNT_SAMPLE", 600)
    source = [str(write("a.jsonl", log(2500)))]
    exact = build_profile(source, tokenizer=tokenizer, exact=True)
    guess = build_profile(source, tokenizer=tokenizer, exact=False)
    assert guess.token_counts == "estimated"
    for side in ("input_tokens", "output_tokens"):
        # A few dozen requests lie beyond the p99 of so small a log; the benchmark holds it to a hundredth on a large one.
        for name, within in (("p50", 0.01), ("p90", 0.01), ("mean", 0.01), ("p99", 0.03)):
            true = getattr(getattr(exact, side), name)
            assert getattr(getattr(guess, side), name) == pytest.approx(true, rel=within, abs=1), (side, name)


def test_workers_and_one_process_say_the_same(write: Any, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from draftsmith.profiling import scan

    source = [str(write("a.jsonl", [*log(400), "broken", *log(50, seed=1)]))]
    alone = build_profile(source, tokenizer=tokenizer, workers=1)
    monkeypatch.setattr(scan, "PARALLEL_FROM", 0)
    together = build_profile(source, tokenizer=tokenizer, workers=2)
    assert alone.sha256 == together.sha256
    assert {one.reason: one.count for one in alone.skipped} == {
        "neither JSON nor a log line that is known": 1,
        "duplicate request id": 50,
    }


def test_usage_of_the_engine_wins_over_counting(write: Any, tokenizer: Path) -> None:
    rows = [request(n, usage={"prompt_tokens": 1000, "completion_tokens": 77}) for n in range(10)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert (found.token_counts, found.tokenizer, found.output_tokens.p50) == ("usage", None, 77)


def test_text_without_counts_or_tokenizer_is_refused(write: Any) -> None:
    with pytest.raises(InputError, match="no tokenizer was given") as caught:
        build_profile([str(write("a.jsonl", log(5)))])
    assert "--tokenizer" in caught.value.next_step


def test_a_tokenizer_with_too_few_words_is_refused(write: Any, tokenizer: Path) -> None:
    row = request(1, prompt_token_ids=[1, 2], output_token_ids=[3, 99_999])
    with pytest.raises(InputError, match="token id 99999"):
        build_profile([str(write("a.jsonl", [row]))], tokenizer=tokenizer)


def test_a_tokenizer_that_reads_other_text_is_refused(write: Any, tokenizer: Path) -> None:
    rows = [request(n, said="Completely different words.", output_token_ids=[50, 60, 70, 80]) for n in range(8)]
    with pytest.raises(InputError, match="decodes the log's token ids to other text"):
        build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)


def test_ids_of_the_log_itself_need_no_tokenizer(write: Any) -> None:
    rows = [request(n, prompt_token_ids=list(range(40)), output_token_ids=list(range(30))) for n in range(20)]
    found = build_profile([str(write("a.jsonl", rows))])
    assert (found.input_tokens.p50, found.output_tokens.p50) == (40, 30)
    assert {one.method for one in found.expected_acceptance} == {"ngram", "suffix"}


def test_arrivals_and_concurrency_come_from_the_clock(write: Any, tokenizer: Path) -> None:
    rows = [request(n, timing={"start_unix_s": 1.7e9 + n * 0.5, "latency_s": 3.0}) for n in range(400)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert found.arrival_rate_per_s == pytest.approx(2.0, rel=0.02)
    assert found.peak_rate_per_s == pytest.approx(2.0)
    assert found.concurrency_mean == pytest.approx(6.0, rel=0.05)


def test_the_load_is_told_over_time(write: Any, tokenizer: Path) -> None:
    quiet = [{"start_unix_s": 1.7e9 + n, "latency_s": 1.0} for n in range(240)]
    busy = [{"start_unix_s": 1.7e9 + 240 + n / 4, "latency_s": 2.0} for n in range(960)]
    rows = [request(n, timing=timing) for n, timing in enumerate(quiet + busy)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    slices = found.load_over_time
    assert len(slices) == 48
    assert [round(one.start_unix_s - slices[0].start_unix_s) for one in slices] == list(range(0, 480, 10))
    assert {one.seconds for one in slices[:-1]} == {10.0}
    assert [one.requests_per_s for one in slices[2:22]] == [1.0] * 20
    assert [one.requests_per_s for one in slices[26:46]] == [4.0] * 20
    assert [one.concurrency for one in slices[2:22]] == pytest.approx([1.0] * 20)
    assert [one.concurrency for one in slices[26:46]] == pytest.approx([8.0] * 20)
    assert any(line.startswith("over time: ") and "in 48 x 10 s" in line for line in lines(found))
    untimed = build_profile([str(write("b.jsonl", log(20)))], tokenizer=tokenizer)
    (path,) = [write("c.jsonl", [{"prompt_tokens": 3, "completion_tokens": 4}] * 9)]
    assert build_profile([str(path)]).load_over_time == ()
    assert sum(one.requests_per_s * one.seconds for one in untimed.load_over_time) == pytest.approx(20)


def test_one_stray_date_does_not_stretch_the_log(write: Any, tokenizer: Path) -> None:
    times = [{"start_unix_s": 1.7e9 + n * 0.5} for n in range(2000)] + [{"start_unix_s": 3.0}]
    rows = [request(n, timing=timing) for n, timing in enumerate(times)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert found.arrival_rate_per_s == pytest.approx(2.0, rel=0.02)


def test_counts_alone_say_what_is_missing(write: Any) -> None:
    rows = [{"prompt_tokens": 10 + n, "completion_tokens": 20, "content_class": "code"} for n in range(30)]
    found = build_profile([str(write("a.jsonl", rows))])
    assert found.content_class_mix == {"code": 1.0}
    assert {"prompt text", "answer text", "token ids", "arrivals", "parameters"} <= set(found.not_available)
    assert found.multi_turn_share is None
    assert found.repetition_loop_share is None
    assert found.expected_acceptance == ()
    assert "could not be measured" in found.recommended_spec_decode.rationale


def test_parameters_that_speculation_refuses_are_counted(write: Any, tokenizer: Path) -> None:
    asked = [{"min_p": 0.1}, {"min_p": 0.0}, {"logit_bias": {"5": -100}}, {"temperature": 0.7}]
    rows = [request(n, params=params) for n, params in enumerate(asked)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert found.rejected_by_speculation == {"min_p": 1, "logit_bias": 1}
    assert found.sampling_parameters["logit_bias"] == {"set": 1}, "values that may tell of users are not kept"


def test_a_dialogue_is_told_from_worked_examples(write: Any, tokenizer: Path) -> None:
    first = [{"role": "user", "content": "Who jumps?"}]
    second = [*first, {"role": "assistant", "content": "The fox."}, {"role": "user", "content": "Over whom?"}]
    shots = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    rows = [request(0, messages=first), request(1, messages=second)]
    rows += [request(n, messages=[*shots, {"role": "user", "content": f"{n}+1"}]) for n in range(2, 8)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert found.multi_turn_share == pytest.approx(1 / 8)
    assert found.prefix_reuse_share is not None
    assert found.prefix_reuse_share > 0.2


def test_answers_that_loop_are_noticed(write: Any, tokenizer: Path) -> None:
    rows = [request(0, "I am sure that it is fine. " * 30), request(1), request(2), request(3)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert found.repetition_loop_share == pytest.approx(0.25)
    long = [request(n, prose(random.Random(n), 60)) for n in range(10)]
    wild = [request(n, "I am sure that it is fine. " * 60) for n in range(10, 16)]
    found = build_profile([str(write("b.jsonl", [*long, *wild]))], tokenizer=tokenizer)
    assert all((row.without_loops or 9.0) < (row.tokens_per_step or 0.0) for row in found.expected_acceptance)
    told = found.recommended_spec_decode.evidence
    assert told["suffix_tokens_per_step"] == pytest.approx(
        next(row.without_loops for row in found.expected_acceptance if row.method == "suffix"), abs=1e-3
    )


def test_rejected_lines_are_written_aside_privately(write: Any, tokenizer: Path, tmp_path: Path) -> None:
    aside = tmp_path / "rejects.jsonl"
    build_profile([str(write("a.jsonl", [request(0), '{"half":']))], tokenizer=tokenizer, rejects=aside)
    assert json.loads(aside.read_text()) == {"reason": "broken JSON", "where": "a.jsonl:2", "raw": '{"half":'}
    assert aside.stat().st_mode & 0o077 == 0


def test_a_limit_stops_early_and_progress_is_told(write: Any, tokenizer: Path) -> None:
    source = [str(write("a.jsonl", log(50)))]
    assert build_profile(source, tokenizer=tokenizer, limit=7).n_requests == 7
    told: list[tuple[int, int | None]] = []
    build_profile(source, tokenizer=tokenizer, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]


def test_no_text_of_the_traffic_stands_in_the_profile(write: Any, tokenizer: Path) -> None:
    secret = "xylophone"
    own: dict[str, Any] = {
        "stop": [secret],
        "user": secret,
        f"of {secret}": 1,
        "tool_choice": secret,
        "response_format": {"type": secret},
    }
    rows = [request(n, f"The {secret} plays.", params={**own, "reasoning_effort": [secret]}) for n in range(5)]
    found = build_profile([str(write("a.jsonl", rows))], tokenizer=tokenizer)
    assert secret not in found.model_dump_json()


def test_the_hash_is_of_the_content_and_survives_the_disk(write: Any, tokenizer: Path) -> None:
    source = [str(write("a.jsonl", log(20)))]
    first, second = (build_profile(source, tokenizer=tokenizer) for _ in range(2))
    assert first.sha256 == second.sha256
    again = WorkloadProfile.model_validate_json(first.model_dump_json(by_alias=True))
    assert profile_module.sealed(again).sha256 == first.sha256
    assert first.provenance[0].name == "a.jsonl"


def test_bench_shapes_stand_in_for_traffic() -> None:
    found = build_profile([], aa_shapes="default")
    assert found.token_counts == "shapes"
    assert [(one.isl, one.osl) for one in found.bench_shapes] == [(1000, 1000), (10000, 1500), (100000, 2000)]
    assert build_profile([], aa_shapes="50:5").recommended_spec_decode.method == "none"
    with pytest.raises(InputError, match="'12k' is not input:output"):
        build_profile([], aa_shapes="12k")


def test_the_terminal_shows_the_recommendation_and_what_was_skipped(write: Any, tokenizer: Path) -> None:
    found = build_profile([str(write("a.jsonl", [*log(30), "{"]))], tokenizer=tokenizer)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(found))
    shown = console.export_text()
    console.file.close()
    assert "30 requests from a.jsonl" in shown
    assert "skipped 1: broken JSON (a.jsonl:31)" in lines(found)
    assert lines(found)[-1].startswith(f"recommended: {found.recommended_spec_decode.method}")
