"""What must not be stored is looked for in the stored bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from corpus_service import Service

from draftsmith.contract.access import Answer
from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.errors import RefusedError
from draftsmith.corpus.build import iter_rows, needs_answers
from draftsmith.corpus.redaction import OVERLAP, PIECE, Redactor
from draftsmith.corpus.target_tokens import TargetTokens
from draftsmith.store.retention import purge
from draftsmith.store.scrub import Scrubber

pytest.importorskip("datafog_core")
pytest.importorskip("detect_secrets")

SECRETS = {
    "EMAIL": "anna.kovacs@example.org",
    "CREDIT_CARD": "4111 1111 1111 1111",
    "PHONE": "+44 20 7946 0958",
    "SSN": "078-05-1120",
    "IP_ADDRESS": "203.0.113.77",
    "SECRET": "ghp_a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8",
    "API_KEY": "sk-ant-api03-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8",
    "CREDENTIAL_URI": "postgres://clerk:hunter22@db.internal/orders",
}


def stored_text(folder: Path, service: Service) -> str:
    """Everything a thief would get: every file as bytes, every column decoded, every row of ids read as text."""
    seen = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        seen.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            seen += [str(value) for name in frame.columns if frame[name].dtype == pl.String for value in frame[name]]
            if "input_ids" in frame.columns:
                seen += [
                    service.tokenizer.decode(ids.to_list(), skip_special_tokens=False) for ids in frame["input_ids"]
                ]
    return "\n".join(seen)


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_each_kind_is_found_and_replaced(kind: str, secret: str) -> None:
    text, found = Redactor().clean(f"Dear team: {secret} is mine, ÄÖ {secret}, thank you.")
    assert secret not in text
    assert text.endswith("thank you.")
    assert sum(found.values()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "2 + 2 = 4, 17 * 3 = 51",
        "SELECT MIN(wins) FROM t WHERE points = 6;",
        "See chapter 3.2 on 12 May 2021, 10115 Berlin.",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor().find(text) == []


def test_allowed_texts_and_own_patterns() -> None:
    redactor = Redactor(allow={"help@shop.example"}, patterns={"ORDER": r"\bORD-\d{6}\b"})
    text, _ = redactor.clean("Write to help@shop.example about ORD-123456 or to bob@shop.example")
    assert text == "Write to help@shop.example about [ORDER] or to [EMAIL]"


def test_a_redacted_prompt_goes_back_to_the_target(service: Service) -> None:
    thought = Answer(text="Hello Anna", reasoning="She is anna.kovacs@example.org")
    record = service.ask("I am anna.kovacs@example.org, hello", answer="Hello Anna").model_copy(
        update={"answer": thought}
    )
    clean, found = Redactor().prompt(record)
    assert dict(found) == {"EMAIL": 1}
    assert clean.messages == [{"role": "user", "content": "I am [EMAIL], hello"}]
    assert (clean.prompt_token_ids, clean.output_token_ids, clean.completion) == (None, None, None)
    assert "anna" not in clean.model_dump_json(), "nor in the parts of the answer"
    assert (clean.id, clean.timing) == (record.id, record.timing)
    named = record.model_copy(update={"messages": None, "conversation": "bob@example.org/1", "route": "bob@example.org",
                                      "params": {"user": "bob@example.org", "stop": ["call +44 20 7946 0958"]}})  # fmt: skip
    clean_names, found = Redactor().prompt(named)
    assert dict(found) == {"PHONE": 1}
    assert clean_names.params == {"stop": ["call [PHONE]"]}
    assert "bob" not in clean_names.model_dump_json()
    assert needs_answers([clean]).replay == [clean]
    tools = {"role": "assistant", "tool_calls": [{"function": {"arguments": '{"to": "anna.kovacs@example.org"}'}}]}
    parts = {"role": "user", "content": [{"type": "text", "text": "ring +44 20 7946 0958"}]}
    nested, _ = Redactor().prompt(record.model_copy(update={"messages": [tools, parts]}))
    assert "anna" not in str(nested.messages)
    assert "7946" not in str(nested.messages)


def test_no_planted_secret_is_in_the_stored_bytes(service: Service, tmp_path: Path) -> None:
    service.chatter(30)
    for number, secret in enumerate(SECRETS.values()):
        service.ask(f"please note {secret} for later", answer=f"noted, number {number}")
        service.ask(f"what did I say, {number}?", answer=f"you said {secret} to me")
        service.ask(
            f"plain question {number}", answer=f"plain answer {number}", params={"user": secret, "seed": number}
        )
    service.ask("who am I", answer="someone", conversation="anna.kovacs@example.org", id="anna.kovacs@example.org")
    check = Redactor().check(TargetTokens(service.folder, service.target))
    manifest = service.build(tmp_path / "corpus", check=check)
    assert manifest.dropped == {"redacted_answer": len(SECRETS), "redacted_prompt": len(SECRETS)}
    stored = stored_text(tmp_path / "corpus", service)
    assert "plain answer 3" in stored
    assert [secret for secret in SECRETS.values() if secret in stored] == []


def test_the_same_search_finds_them_without_redaction(service: Service, tmp_path: Path) -> None:
    service.chatter(30)
    service.ask("my address is anna.kovacs@example.org", answer="thanks")
    service.build(tmp_path / "corpus")
    assert "anna.kovacs@example.org" in stored_text(tmp_path / "corpus", service)


def test_zero_retention_stores_no_text_and_purging_leaves_aggregates(service: Service, tmp_path: Path) -> None:
    run = tmp_path / "run"
    corpus, compare = run / "phases/corpus/corpus", run / "phases/compare"
    service.chatter(30)
    service.ask("the codeword is Rumpelstilzchen", answer="Rumpelstilzchen it is", id="Rumpelstilzchen",
                conversation="Rumpelstilzchen", route="shop", params={"user": "Rumpelstilzchen", "stop": ["Rumpelstilzchen"], "top_p": 1})  # fmt: skip
    manifest = service.build(corpus, CorpusConfig(retention="zero"))
    rows = list(iter_rows(corpus))
    assert {row.messages for row in rows} == {None}
    assert b"Rumpelstilzchen" not in b"".join(p.read_bytes() for p in corpus.iterdir())
    assert "Rumpelstilzchen" in stored_text(corpus, service), "token ids are still text until the purge"

    text = (
        "hidden_states/deep/0.safetensors", "server.log", "a-file-nobody-knows",
        "phases/capture/probe/plan.json", "phases/capture/probe/probe-request.json", "phases/capture/probe/result.json",
        "phases/corpus/answers/manifest.json", "phases/compare/draft/notes.txt", "phases/train/training/run.json",
        "phases/compare/trial-verdict.json", "backend/service-state.json", "journal/old/1.json",
    )  # fmt: skip
    aggregates = (
        "phases/train/draft/model.safetensors", "phases/compare/verdict.json", "phases/capture/plan.json",
        "phases/capture/shard-0001/result.json", "journal/000001.json", "bundle/llama/r/summary.md", "run.json",
    )  # fmt: skip
    for name in (*text, *aggregates):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("Rumpelstilzchen" if name in text else "{}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("not of this run")
    (run / "link").symlink_to(outside)
    (compare / "facts.json").symlink_to(outside / "precious")

    done = purge(run)
    assert "Rumpelstilzchen" not in stored_text(run, service)
    assert done.kept == tuple(sorted(("phases/corpus/corpus/manifest.json", *aggregates)))
    assert sorted(p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()) == list(done.kept)
    assert not (run / "hidden_states").exists()
    assert (outside / "precious").exists()
    assert manifest.splits["train"].rows
    assert purge(run).removed == ()


@pytest.mark.parametrize("folder", ["/", "~", ".."])
def test_a_folder_that_cannot_be_a_run_is_not_purged(folder: str) -> None:
    with pytest.raises(RefusedError, match="not the folder of one run"):
        purge(Path(folder).expanduser())


def test_a_long_text_is_read_in_pieces_and_nothing_is_lost_at_their_edges() -> None:
    redactor = Redactor()
    for place in (PIECE - 12, PIECE - OVERLAP - 3, 2 * (PIECE - OVERLAP) - 8, 3 * PIECE):
        text = "word " * (place // 5) + "jane.doe@example.com " + "word " * 4000
        cleaned, found = redactor.clean(text)
        assert "jane.doe" not in cleaned, place
        assert sum(found.values()) == 1, place


def test_a_text_made_to_be_slow_is_not() -> None:
    redactor, scrubber = Redactor(), Scrubber.of({}, {})

    def seconds(work: Callable[[str], object], text: str) -> float:
        began = time.process_time()
        work(text)
        return time.process_time() - began

    for shape in ("sk-", "::", "/home/a/"):
        short, long = (seconds(redactor.find, shape * (size // len(shape))) for size in (16_000, 64_000))
        assert long < 12 * max(short, 0.02), f"{shape} grows as the square of its length: {short:.2f} s, {long:.2f} s"
    for shape in ("a.", "a-", "sk-", "eyJa."):
        assert seconds(scrubber.text, shape * (100_000 // len(shape))) < 2
