"""Prompts of a comparison are pinned: the same ones, in the same order, for every arm and every reader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from corpus_service import Service

from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.errors import InputError
from draftsmith.corpus.build import iter_rows
from draftsmith.corpus.prompts import general_prompts, heldout_prompts, read_prompts, tuning_prompts, write_prompts


@pytest.fixture
def corpus(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("draftsmith.traffic.classes.classify", lambda record: record.route)
    for turn in range(120):
        service.chatter(1, seed=turn, route="sql" if turn % 3 else "chat")
    service.build(tmp_path / "corpus", CorpusConfig(heldout_share=0.25))
    return tmp_path / "corpus"


def test_the_set_is_stable_and_in_proportion(corpus: Path) -> None:
    chosen = heldout_prompts(corpus, 12, seed=3)
    assert chosen == heldout_prompts(corpus, 12, seed=3)
    assert chosen.sha256 != heldout_prompts(corpus, 12, seed=4).sha256
    assert Counter(p.content_class for p in chosen.prompts) == {"sql": 8, "chat": 4}
    rows = {row.id: row for row in iter_rows(corpus, "heldout")}
    for prompt in chosen.prompts:
        row = rows[prompt.prompt_id]
        assert prompt.prompt_token_ids == row.input_ids[: row.prompt_tokens].tolist()
        assert prompt.messages is not None
        assert (prompt.max_tokens, prompt.params) == (64, {"temperature": 0})


def test_tuning_prompts_are_never_heldout(corpus: Path) -> None:
    held = {row.id for row in iter_rows(corpus, "heldout")}
    tuning = tuning_prompts(corpus, 5)
    assert len(tuning.prompts) == 5
    assert not held & {p.prompt_id for p in tuning.prompts}


def test_a_larger_wish_gets_all_there_is(corpus: Path) -> None:
    assert len(heldout_prompts(corpus, 1000).prompts) == 30


def test_conversations_come_once_before_any_comes_twice(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    for number in range(20):
        service.ask(f"turn {number} of a long talk {number**5}", answer=f"reply {number**4}", conversation="talk")
    service.ask("one more", answer="yes", conversation="talk")
    service.build(tmp_path / "corpus", CorpusConfig(heldout_share=0.25))
    names = {row.id: row.conversation for row in iter_rows(tmp_path / "corpus", "heldout")}
    chosen = [names[p.prompt_id] for p in heldout_prompts(tmp_path / "corpus", 8).prompts]
    assert chosen.count("talk") <= 1


def test_zero_retention_prompts_are_token_ids(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    service.build(tmp_path / "corpus", CorpusConfig(retention="zero"))
    chosen = heldout_prompts(tmp_path / "corpus", 4)
    assert {p.messages for p in chosen.prompts} == {None}
    assert all(p.prompt_token_ids for p in chosen.prompts)


def test_a_pinned_file_is_read_back_or_refused(corpus: Path, tmp_path: Path) -> None:
    chosen = heldout_prompts(corpus, 6)
    path = write_prompts(tmp_path / "prompts.jsonl", chosen)
    assert path.stat().st_mode & 0o077 == 0
    assert read_prompts(path, chosen.sha256) == chosen
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match="not the set of prompts that was pinned"):
        read_prompts(path, chosen.sha256)


def test_general_prompts_come_from_a_log_or_from_the_built_in_set(service: Service) -> None:
    built_in = general_prompts(None, 12)
    assert len({p.prompt_id for p in built_in.prompts}) == 12
    assert len({p.content_class for p in built_in.prompts}) > 2
    service.chatter(5)
    assert {p.prompt_id for p in general_prompts(service.log, 3).prompts} <= {"r0", "r1", "r2", "r3", "r4"}
    with pytest.raises(InputError):
        general_prompts([], 3)
