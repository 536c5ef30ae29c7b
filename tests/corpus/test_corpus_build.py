"""From a log to a corpus: what is kept, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from corpus_service import VOCAB, WORDS, Service

from draftsmith.contract.access import Answer
from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError, PrerequisiteError
from draftsmith.contract.profile import Distribution, LengthBucket, Recommendation, WorkloadProfile
from draftsmith.corpus import spill
from draftsmith.corpus.build import answered, build_corpus, iter_rows, needs_answers, open_corpus, storage_estimate
from draftsmith.corpus.target_tokens import TargetTokens
from draftsmith.traffic.importers import read_records


def test_a_row_is_what_the_engine_said(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    manifest = service.build(tmp_path / "corpus")
    rows = {row.id: row for row in iter_rows(tmp_path / "corpus")}
    assert open_corpus(tmp_path / "corpus") == manifest
    assert len(rows) == 40
    for record in service.log:
        row = rows[record.id]
        assert row.input_ids.tolist() == record.prompt_token_ids + record.output_token_ids
        assert row.loss_mask.sum() == len(record.output_token_ids)
        assert row.loss_mask[row.prompt_tokens - 1 : row.prompt_tokens + 1].tolist() == [0, 1]
        assert row.input_ids[-1] == service.ids("<|end|>")[0]


def test_the_latest_conversations_are_held_out_and_none_is_split(service: Service, tmp_path: Path) -> None:
    for number in range(40):
        first = service.ask(f"story number {number * number}", answer=f"once upon {number**3} times")
        assert first.completion is not None
        if number % 2:
            service.ask(f"story number {number * number}", first.completion, "go on", answer=f"and then {number**4}")
    manifest = service.build(tmp_path / "corpus")
    of: dict[str, set[str]] = {}
    started: dict[str, float] = {}
    for row in iter_rows(tmp_path / "corpus"):
        of.setdefault(row.conversation, set()).add(row.split)
        started[row.conversation] = min(started.get(row.conversation, 9e9), row.time_s or 0)
    assert all(len(splits) == 1 for splits in of.values())
    held = [started[name] for name, splits in of.items() if splits == {"heldout"}]
    assert len(of) == 40
    assert len(held) == round(40 * 0.15)
    assert min(held) > max(time for name, time in started.items() if of[name] != {"heldout"})
    assert manifest.splits["validation"].rows > 0


def test_order_of_appearance_decides_without_times(service: Service, tmp_path: Path) -> None:
    service.chatter(40, timing=None)
    service.build(tmp_path / "corpus")
    held = [row.id for row in iter_rows(tmp_path / "corpus", "heldout")]
    assert held == [f"r{n}" for n in range(34, 40)]


def test_every_refusal_is_counted_by_its_reason(service: Service, tmp_path: Path) -> None:
    service.chatter(30)
    service.ask("fails", answer="x", error="timeout")
    service.ask("filtered", answer="x", finish_reason="content_filter")
    service.ask("no end known", answer="x", finish_reason=None)
    service.ask("no ids", answer="x", output_token_ids=None)
    service.ask("nothing said", answer="x", output_token_ids=[], completion="")
    service.ask("nothing asked", answer="x", prompt_token_ids=[])
    service.ask("foreign", answer="x", output_token_ids=[VOCAB], completion=None)
    service.ask("negative", answer="x", output_token_ids=[-1], completion=None)
    service.ask("long " * 600, answer="x")
    service.ask("short", answer="word " * 600)
    service.log.append(service.log[3])
    manifest = service.build(tmp_path / "corpus", dropped={"no_text": 2})
    assert manifest.dropped == {
        "duplicate_id": 1, "empty_answer": 1, "empty_prompt": 1, "error": 1, "id_out_of_vocabulary": 2, "no_text": 2,
        "no_token_ids": 1, "prompt_over_length": 1, "unfinished": 2,
    }  # fmt: skip
    assert manifest.cut == {"answer_over_length": 1}
    cut = next(row for row in iter_rows(tmp_path / "corpus") if row.id == "r39")
    assert len(cut.input_ids) == 2048
    assert sum(s.rows for s in manifest.splits.values()) == 31


def test_logs_that_count_alike_are_not_mistaken_for_repeats(service: Service, tmp_path: Path) -> None:
    service.chatter(20)
    service.log = [record.model_copy(update={"id": f"chatcmpl-{n % 10}"}) for n, record in enumerate(service.log)]
    manifest = service.build(tmp_path / "corpus")
    names = [row.id for row in iter_rows(tmp_path / "corpus")]
    assert "duplicate_id" not in manifest.dropped
    assert len(set(names)) == 20
    assert "chatcmpl-3~2" in names


def test_the_manifest_adds_up(service: Service, tmp_path: Path) -> None:
    service.chatter(50)
    manifest = service.build(tmp_path / "corpus", layers=4, state_bytes=2, regenerated=7)
    rows = list(iter_rows(tmp_path / "corpus"))
    for name, counts in manifest.splits.items():
        mine = [row for row in rows if row.split == name]
        assert counts.rows == len(mine)
        assert counts.prompt_tokens == sum(row.prompt_tokens for row in mine)
        assert counts.answer_tokens == sum(int(row.loss_mask.sum()) for row in mine)
    captured = sum(len(row.input_ids) for row in rows if row.split != "heldout")
    assert manifest.capture_bytes_estimate == storage_estimate(captured, 4, 8, 2) == captured * 4 * 8 * 2
    assert manifest.regenerated == 7
    assert manifest.vocabulary is not None
    assert manifest.vocabulary.size == VOCAB  # the floor of 1024 is more than this small target has
    assert manifest.vocabulary.coverage["train"] >= 0.995


def test_max_rows_keeps_the_mix_and_follows_the_profile(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftsmith.traffic.classes.classify", lambda record: record.route)
    for turn in range(60):
        service.chatter(1, seed=turn, route="sql" if turn % 3 else "chat")
    profile = WorkloadProfile(
        n_requests=100, input_tokens=Distribution(), output_tokens=Distribution(),
        content_class_mix={"sql": 0.5, "chat": 0.5},
        recommended_spec_decode=Recommendation(method="eagle3", rationale="test"),
    )  # fmt: skip
    manifest = service.build(tmp_path / "corpus", CorpusConfig(max_rows=24), profile=profile)
    train = Counter(row.content_class for row in iter_rows(tmp_path / "corpus", "train"))
    assert sum(s.rows for s in manifest.splits.values()) == 24
    assert manifest.dropped["over_max_rows"] == 36
    assert abs(train["sql"] - train["chat"]) <= 1
    assert manifest.class_weights["chat"] > 1 > manifest.class_weights["sql"]


def test_rows_weigh_what_the_profiles_classes_and_lengths_ask_for(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftsmith.traffic.classes.classify", lambda record: record.route)
    draw = random.Random(3)
    for number in range(240):
        answer = " ".join(draw.choices(WORDS, k=30 if number % 3 == 0 else 4))
        question = " ".join(draw.choices(WORDS, k=8))
        service.ask(question, answer=answer, route="sql" if number % 2 else "chat")
    halves = tuple(LengthBucket(low=low, high=high, share=0.5) for low, high in ((0, 64), (64, None)))
    profile = WorkloadProfile(
        n_requests=100, input_tokens=Distribution(), output_tokens=Distribution(), osl_buckets=halves,
        content_class_mix={"sql": 0.2, "chat": 0.8},
        recommended_spec_decode=Recommendation(method="eagle3", rationale="test"),
    )  # fmt: skip

    def shares(name: str, *, weighted: bool) -> tuple[float, float]:
        """Of the training rows: share of chat, and of long answers."""
        rows = list(iter_rows(tmp_path / name, "train"))
        weights = [row.weight if weighted else 1.0 for row in rows]
        chat = sum(w for row, w in zip(rows, weights, strict=True) if row.content_class == "chat")
        long = sum(w for row, w in zip(rows, weights, strict=True) if row.loss_mask.sum() >= 64)
        return chat / sum(weights), long / sum(weights)

    manifest = service.build(tmp_path / "all", profile=profile)
    assert shares("all", weighted=True) == (pytest.approx(0.8, abs=0.01), pytest.approx(0.5, abs=0.01))
    assert shares("all", weighted=False) == (pytest.approx(0.5, abs=0.05), pytest.approx(1 / 3, abs=0.05))
    assert manifest.length_weights["output"]["64-"] > 1 > manifest.length_weights["output"]["0-64"]
    assert {row.weight for row in iter_rows(tmp_path / "all", "heldout")} == {1.0}

    service.build(tmp_path / "some", CorpusConfig(max_rows=80), profile=profile)
    chat, long = shares("some", weighted=False)
    assert (chat, long) == (pytest.approx(0.8, abs=0.02), pytest.approx(0.5, abs=0.1)), "what is drawn follows both"
    assert shares("some", weighted=True) == (pytest.approx(0.8, abs=0.02), pytest.approx(0.5, abs=0.02))

    service.build(tmp_path / "plain")
    assert {row.weight for row in iter_rows(tmp_path / "plain")} == {1.0}


def test_hard_rows_come_first_when_asked(service: Service, tmp_path: Path) -> None:
    service.chatter(100)
    service.build(tmp_path / "plain", CorpusConfig(max_rows=30))
    service.build(tmp_path / "hard", CorpusConfig(max_rows=30), hard_share=0.5)
    share = {r.id: r.spec.accepted_tokens / r.spec.draft_tokens for r in service.log if r.spec}

    def mean(name: str) -> float:
        kept = [share[row.id] for row in iter_rows(tmp_path / name, "train")]
        return sum(kept) / len(kept)

    assert mean("hard") < mean("plain") - 0.1


SAME = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from corpus_service import Service
service = Service(Path(sys.argv[2]) / "target")
service.chatter(60)
service.build(Path(sys.argv[2]) / "corpus")
"""


def test_the_same_log_gives_the_same_bytes_in_any_process(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.chatter(60)
    monkeypatch.setattr(spill, "CHUNK_ROWS", 16)
    service.build(tmp_path / "here")
    monkeypatch.undo()
    service.build(tmp_path / "again")
    env = {**os.environ, "PYTHONHASHSEED": "7", "POLARS_MAX_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", SAME, str(Path(__file__).parent), str(tmp_path / "there")], env=env, check=True
    )
    for name in ("rows.parquet", "token_freq.parquet", "manifest.json"):
        wanted = (tmp_path / "here" / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == wanted, name
        assert (tmp_path / "there/corpus" / name).read_bytes() == wanted, name


def test_everything_is_private(service: Service, tmp_path: Path) -> None:
    service.chatter(20)
    service.build(tmp_path / "corpus")
    assert (tmp_path / "corpus").stat().st_mode & 0o777 == 0o700
    files = sorted((tmp_path / "corpus").iterdir())
    assert [path.name for path in files] == ["manifest.json", "rows.parquet", "token_freq.parquet"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_an_empty_log_says_so(service: Service, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no request"):
        service.build(tmp_path / "corpus")


def test_nothing_usable_names_the_reasons(service: Service, tmp_path: Path) -> None:
    service.chatter(5, output_token_ids=None)
    with pytest.raises(InputError, match="5 x the engine's own token ids") as caught:
        service.build(tmp_path / "corpus")
    assert "regenerate" in caught.value.next_step


def test_too_few_conversations_says_how_many_are_needed(service: Service, tmp_path: Path) -> None:
    service.chatter(12)
    with pytest.raises(InputError, match=r"12 conversations .* at least 13 are needed"):
        service.build(tmp_path / "corpus")
    service.chatter(1, seed=1)
    assert service.build(tmp_path / "corpus").splits["train"].rows > 0


def test_ids_of_another_model_are_noticed(service: Service, tmp_path: Path) -> None:
    service.chatter(30)
    foreign = [
        r.model_copy(update={"output_token_ids": [i + 1 for i in r.output_token_ids or []]}) for r in service.log
    ]
    service.log = foreign
    with pytest.raises(InputError, match="do not belong to this target"):
        service.build(tmp_path / "corpus")


def test_a_tokenizer_larger_than_the_target_is_refused(service: Service, tmp_path: Path) -> None:
    service.chatter(30)
    small = service.target.model_copy(update={"vocab_size": 200})
    with pytest.raises(InputError, match=r"ids up to 257, the target's vocabulary ends at 199"):
        build_corpus(service.log, tmp_path / "c", target=small, tokenizer_path=service.folder, config=CorpusConfig())


def test_a_full_disk_leaves_the_old_corpus(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "corpus"
    service.chatter(30)
    old = service.build(out)
    service.chatter(30, seed=5)

    def full(parts: list[Path], path: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("draftsmith.corpus.build.concatenate", full)
    with pytest.raises(PrerequisiteError, match="is full; the corpus was not changed"):
        service.build(out)
    assert open_corpus(out) == old
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "rows.parquet", "token_freq.parquet"]


def test_a_killed_build_leaves_nothing_that_opens(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    (out / ".building").mkdir(parents=True)
    (out / ".building" / "chunk-000000.parquet").write_text("what a killed run left")
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        open_corpus(out)
    service.chatter(30)
    service.build(out)
    assert not (out / ".building").exists()
    with (out / "rows.parquet").open("ab") as rows:
        rows.write(b"x")
    with pytest.raises(InputError, match="not the file that its manifest describes"):
        open_corpus(out)


def test_prompts_without_their_own_answer_go_back_to_the_target(service: Service) -> None:
    service.chatter(2)
    mine, other = service.log
    no_ids = mine.model_copy(update={"output_token_ids": None})
    foreign = other.model_copy(update={"completion": "said by someone else"})
    mute = mine.model_copy(update={"output_token_ids": None, "messages": None})
    failed = mine.model_copy(update={"error": "timeout"})
    tokens = TargetTokens(service.folder, service.target)
    log = [mine, no_ids, foreign, mute, failed]
    auto = needs_answers(log, tokens=tokens)
    assert (auto.ready, auto.replay, auto.dropped) == ([mine], [no_ids, foreign], {"error": 1, "no_text": 1})
    always = needs_answers(log, "always", tokens=tokens)
    assert (always.ready, always.replay) == ([], [mine, no_ids, foreign])
    never = needs_answers(log, "never", tokens=tokens)
    assert (never.ready, never.replay, never.dropped) == ([mine], [], {"error": 1, "no_token_ids": 3})
    assert needs_answers([mine], served_as=["another-model"]).replay == [mine]
    old = mine.model_copy(update={"answer": Answer(text="something else")})
    again = answered(old, prompt_ids=mine.prompt_token_ids, output_ids=mine.output_token_ids, text=None, finish_reason="stop")  # fmt: skip
    assert again.answer is None, "the parts of the old answer are not those of the new one"


def test_a_replayed_answer_keeps_the_place_of_the_request_in_time(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    late, early = service.log[39], service.log[0]
    bare = early.model_copy(update={"prompt_token_ids": None, "output_token_ids": None, "completion": None})
    assert needs_answers([bare]).replay == [bare]
    again = answered(
        bare, prompt_ids=early.prompt_token_ids or [], output_ids=service.ids("new"), text="new", finish_reason="stop"
    )
    service.log = [*service.log[1:], again]
    service.build(tmp_path / "corpus")
    split = {row.id: row.split for row in iter_rows(tmp_path / "corpus")}
    assert split[late.id] == "heldout"
    assert split[again.id] != "heldout"


@pytest.mark.parametrize("name", ["think", "hermes", "xml", "plain"])
def test_recordings_of_thinking_and_tool_calls_need_no_new_answers(name: str) -> None:
    """Logs of a server with reasoning and tool parsers, made with the tokenizer of the small target."""
    log = Path(__file__).resolve().parents[3] / "shared" / "cases" / "native" / f"{name}.jsonl"
    target = Path(os.environ.get("DRAFTSMITH_TARGET", ".cache/demo-target"))
    if not (log.exists() and (target / "tokenizer.json").exists()):
        pytest.skip("no shared/cases beside the repository, or no small target")
    facts = TargetFacts(
        path="", architecture="LlamaForCausalLM", model_type="llama", num_layers=4, hidden_size=8, vocab_size=49152,
        max_position_embeddings=4096, dtype="bfloat16", weight_bytes=1, sha256="t", tokenizer_sha256="t",
    )  # fmt: skip
    sorted_ = needs_answers(read_records([str(log)]), "auto", tokens=TargetTokens(target, facts))
    assert (len(sorted_.ready), len(sorted_.replay), sorted_.dropped) == (8, 0, {})
