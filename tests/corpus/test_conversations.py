"""Which requests are one conversation. A leak here would let the draft train on what it is judged by."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from corpus_service import Service
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.corpus.build import iter_rows
from draftsmith.corpus.rows import dialogue_keys
from draftsmith.corpus.splits import MAX_BRANCHES, Shares, assign, conversations

EXAMPLES = ("Table: a\nQuestion: how many?", "SELECT COUNT(*) FROM a", "Table: b\nQuestion: which?", "SELECT x FROM b")


def names(log: list[AccessRecord]) -> list[str]:
    keys = [dialogue_keys(record) for record in log]
    frame = pl.DataFrame(
        {
            "conversation": pl.Series([record.conversation for record in log], dtype=pl.String),
            "own_key": [own for own, _ in keys],
            "parent_keys": pl.Series([list(parents) for _, parents in keys], dtype=pl.List(pl.Int64)),
        }
    )
    return conversations(frame)


def test_later_turns_find_their_first_turn(service: Service) -> None:
    service.ask("hello there", answer="hi")
    service.ask("another topic", answer="sure")
    service.ask("hello there", "hi", "and then?", answer="then this")
    service.ask("hello there", "hi", "and then?", " then this ", "and now?", answer="that")
    first, other, second, third = names(service.log)
    assert first == second == third != other


def test_a_turn_that_was_never_logged_does_not_break_the_chain(service: Service) -> None:
    service.ask("start", answer="a")
    service.ask("start", "a", "middle", "b", "end", answer="c")
    assert len(set(names(service.log))) == 1


def test_an_edited_answer_is_still_the_same_conversation(service: Service) -> None:
    service.ask("start", answer="what the target said")
    service.ask("start", "what another server said before", "go on", answer="c")
    assert len(set(names(service.log))) == 1


def test_a_client_that_trims_what_it_sends_back_is_recognised(service: Service) -> None:
    service.ask("start here\n", answer="a")
    service.ask("start here", "a", "go on", answer="b")
    assert len(set(names(service.log))) == 1


def test_shared_system_prompt_and_examples_do_not_join_requests(service: Service) -> None:
    for number in range(100):
        service.ask(*EXAMPLES, f"Table: t{number}\nQuestion: who?", answer=f"SELECT {number}", system="You write SQL.")
    assert len(set(names(service.log))) == 100


def test_examples_that_were_once_asked_for_real_do_not_join_requests_either(service: Service) -> None:
    service.ask(EXAMPLES[0], answer=EXAMPLES[1], system="You write SQL.")
    service.ask(*EXAMPLES[:3], answer=EXAMPLES[3], system="You write SQL.")
    for number in range(MAX_BRANCHES + 1):
        service.ask(*EXAMPLES, f"Table: t{number}\nQuestion: who?", answer=f"SELECT {number}", system="You write SQL.")
    found = names(service.log)
    assert len(set(found[2:])) == MAX_BRANCHES + 1


def test_the_same_prompt_again_is_the_same_conversation(service: Service) -> None:
    service.ask("roll a die", answer="four")
    service.ask("roll a die", answer="six")
    assert len(set(names(service.log))) == 1


def test_names_in_the_log_win(service: Service) -> None:
    service.ask("hi", answer="hello", conversation="ann")
    service.ask("hi", answer="hello", conversation="bob")
    service.ask("only once", answer="yes", conversation="cy")
    service.ask("only once", "yes", "more", answer="no")
    assert names(service.log) == ["ann", "bob", "cy", "cy"]


def test_a_log_of_token_ids_alone_is_linked_too(service: Service, tmp_path: Path) -> None:
    service.chatter(20, messages=None, completion=None, timing=None)
    service.ask("start here", answer="a first answer", messages=None, completion=None, timing=None)
    service.ask("start here", "a first answer", "go on", answer="second", messages=None, completion=None, timing=None)
    service.chatter(20, seed=3, messages=None, completion=None, timing=None)
    service.build(tmp_path / "corpus")
    rows = {row.id: row for row in iter_rows(tmp_path / "corpus")}
    assert rows["r20"].conversation == rows["r21"].conversation
    assert len({row.conversation for row in rows.values()}) == 41


@given(
    st.lists(st.tuples(st.integers(0, 30), st.one_of(st.none(), st.floats(0, 1e6))), min_size=60, max_size=120),
    st.integers(0, 5),
)
def test_splits_are_complete_stable_and_late(turns: list[tuple[int, float | None]], seed: int) -> None:
    conversation = [f"c{number}" for number, _ in turns]
    times = [time for _, time in turns]
    shares = Shares(validation=0.2, heldout=0.2, seed=seed)
    if len(set(conversation)) < shares.needed():
        with pytest.raises(InputError):
            assign(conversation, times, shares)
        return
    split = assign(conversation, times, shares)
    assert split == assign(conversation, times, shares)
    assert set(split) == set(conversation)
    assert set(split.values()) == {"train", "validation", "heldout"}
    start = {
        n: min((t for c, t in zip(conversation, times, strict=True) if c == n and t is not None), default=None)
        for n in split
    }
    held = [start[n] for n in split if split[n] == "heldout"]
    rest = [start[n] for n in split if split[n] != "heldout"]
    if all(t is not None for t in held):
        assert min(t for t in held if t is not None) >= max((t for t in rest if t is not None), default=0)


def test_validation_stays_validation_when_the_log_grows() -> None:
    small, large = ([f"c{n}" for n in range(count)] for count in (200, 400))
    shares = Shares(validation=0.1, heldout=0.15)
    before = {n for n, s in assign(small, [float(n) for n in range(200)], shares).items() if s == "validation"}
    after = assign(large, [float(n) for n in range(400)], shares)
    assert {after[name] for name in before} == {"validation"}
