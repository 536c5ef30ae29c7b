"""What a served draft predicted worst joins the training rows, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

from corpus_service import WORDS, Service

from draftsmith.contract.access import AccessRecord, SpecStats
from draftsmith.contract.config import CorpusConfig
from draftsmith.corpus.build import iter_rows


def served(service: Service, count: int) -> list[AccessRecord]:
    """A later log of the same service, with acceptance; the traffic does not hold it."""
    before = len(service.log)
    draw = random.Random(7)
    for number in range(count):
        question, answer = (" ".join(draw.choices(WORDS, k=12)) for _ in range(2))
        spec = SpecStats(drafts=10, draft_tokens=30, accepted_tokens=number)
        service.ask(question, answer=answer, id=f"served-{number}", spec=spec)
    late, service.log = service.log[before:], service.log[:before]
    return late


def test_mined_requests_train_and_are_never_measured_on(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    mined = served(service, 12)
    alone = service.build(tmp_path / "alone")
    manifest = service.build(tmp_path / "corpus", mined=mined)
    rows = list(iter_rows(tmp_path / "corpus"))
    of_mined = {row.id: row.split for row in rows if row.id.startswith("served-")}
    assert of_mined == {record.id: "train" for record in mined}
    for split in ("validation", "heldout"):
        assert manifest.splits[split] == alone.splits[split], "although they came last, what is measured on stays"


def test_a_mined_request_of_a_held_out_conversation_is_left_out(service: Service, tmp_path: Path) -> None:
    service.chatter(30)
    service.ask("late question", answer="late answer", conversation="late")
    mined = [one.model_copy(update={"conversation": "late"}) for one in served(service, 1)]
    manifest = service.build(tmp_path / "corpus", mined=mined)
    assert manifest.dropped == {"hard_elsewhere": 1}
    again = service.build(tmp_path / "again", mined=[service.log[0]])
    assert again.dropped == {"duplicate_id": 1}, "a request of both logs counts once"


def test_where_rows_are_limited_the_hardest_come_first(service: Service, tmp_path: Path) -> None:
    service.chatter(60)
    manifest = service.build(tmp_path / "corpus", CorpusConfig(max_rows=40), hard_share=0.25)
    accepted = {record.id: record.spec.accepted_tokens for record in service.log if record.spec}
    training = sorted(accepted[row.id] for row in iter_rows(tmp_path / "corpus", "train"))
    plain = service.build(tmp_path / "plain", CorpusConfig(max_rows=40))
    usual = sorted(accepted[row.id] for row in iter_rows(tmp_path / "plain", "train"))
    assert manifest.splits["train"].rows == plain.splits["train"].rows
    service.build(tmp_path / "whole")
    pool = sorted(accepted[row.id] for row in iter_rows(tmp_path / "whole", "train"))
    hardest = len(training) // 4
    assert training[:hardest] == pool[:hardest]
    assert sum(training) < sum(usual)
