"""Rows of one service look alike; only what a row says by itself may count as a repeat."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from corpus_service import WORDS, Service
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.errors import InputError
from draftsmith.corpus.build import iter_rows
from draftsmith.corpus.dedup import NearIndex, Templates, jaccard, learn_templates, prefix_keys, shingles

LONG_SYSTEM = "You are the assistant of a railway. " + "Follow the rules of the house at all times. " * 20
EXAMPLES = ("Where is my train?", "It is in the station.", "When does it leave?", "It leaves at noon.")


def sentence(draw: random.Random, words: int = 25) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def test_a_long_shared_template_makes_nothing_a_duplicate(service: Service, tmp_path: Path) -> None:
    draw = random.Random(1)
    for _ in range(60):
        question = f"Passenger asks: {sentence(draw, 6)}\nAnswer in one line, without a greeting, and stay polite."
        service.ask(*EXAMPLES, question, answer=sentence(draw, 4), system=LONG_SYSTEM)
    whole = [
        set(zip(*(r.prompt_token_ids[n:] for n in range(5)), strict=False)) for r in service.log if r.prompt_token_ids
    ]
    assert len(whole[0] & whole[59]) / len(whole[0] | whole[59]) > 0.7
    manifest = service.build(tmp_path / "corpus", CorpusConfig(near_duplicate_threshold=0.7))
    assert manifest.dropped == {}


def test_training_rows_that_nearly_repeat_heldout_ones_are_dropped(service: Service, tmp_path: Path) -> None:
    draw = random.Random(2)
    said = [(sentence(draw, 60), sentence(draw, 60)) for _ in range(6)]
    for question, answer in said:
        service.ask(*EXAMPLES, question, answer=answer, system=LONG_SYSTEM)
    for _ in range(40):
        service.ask(*EXAMPLES, sentence(draw), answer=sentence(draw), system=LONG_SYSTEM)
    for question, answer in said:
        service.ask(*EXAMPLES, f"{question}!", answer=f"{answer}.", system=LONG_SYSTEM)
    manifest = service.build(tmp_path / "corpus")
    assert manifest.dropped == {"near_duplicate": 6}
    assert not {f"r{n}" for n in range(6)} & {row.id for row in iter_rows(tmp_path / "corpus")}


def test_equal_rows_collapse_and_prompts_of_the_heldout_leave_training(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    for number in range(3):
        service.ask("the very same", answer="as ever", conversation=f"early-{number}", timing=None)
    service.ask("asked again at the end", answer="first answer of many", conversation="early", timing=None)
    service.ask("asked again at the end", answer="now it is another one", conversation="late")
    manifest = service.build(tmp_path / "corpus")
    rows = list(iter_rows(tmp_path / "corpus"))
    assert manifest.dropped == {"duplicate": 2, "repeats_heldout": 1}
    assert [row.split for row in rows if row.conversation in ("early", "late")] == ["heldout"]


def test_traffic_that_only_repeats_itself_is_refused_in_words(service: Service, tmp_path: Path) -> None:
    for number in range(40):
        service.ask("what time is it?", answer="noon", conversation=f"c{number}")
    with pytest.raises(InputError, match="the traffic repeats itself"):
        service.build(tmp_path / "corpus")


def test_the_own_part_is_the_last_turn_without_instruction_and_closing(service: Service) -> None:
    draw = random.Random(3)
    prompts = []
    for _ in range(40):
        content = f"Translate into German: {sentence(draw, 5)} -- reply with the translation only."
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
        prompts.append(np.array(service.render(turns), dtype=np.int32))
    templates = learn_templates(prompts, {256, 257})
    start, end = templates.own_span(prompts[0])
    own = service.tokenizer.decode(prompts[0][start:end].tolist())
    assert len(own.split()) in (5, 6)
    assert not {"Translate", "German:", "reply", "only.", "Be"} & set(own.split())


def test_without_anything_shared_the_whole_last_turn_is_compared() -> None:
    prompt = np.array([9, 1, 2, 9, 3, 4, 5], dtype=np.int32)
    assert Templates(specials=np.array([9], dtype=np.int32)).own_span(prompt) == (4, 7)
    assert Templates().own_span(prompt) == (0, 7)


IDS = st.lists(st.integers(0, 50), min_size=1, max_size=80).map(lambda ids: np.array(ids, dtype=np.int32))


@given(IDS, IDS)
def test_prefixes_have_equal_keys_exactly_where_they_are_equal(a: np.ndarray, b: np.ndarray) -> None:
    shared = min(len(a), len(b))
    equal = np.cumprod(a[:shared] == b[:shared]).astype(bool)
    assert ((prefix_keys(a)[:shared] == prefix_keys(b)[:shared]) == equal).all()


@given(IDS, IDS)
def test_shingles_are_those_of_the_definition(prompt: np.ndarray, answer: np.ndarray) -> None:
    def plain(text: list[int]) -> set[tuple[int, ...]]:
        width = min(5, len(text))
        return {tuple(text[n : n + width]) for n in range(len(text) - width + 1)}

    mine, other = shingles(prompt, answer, Templates()), shingles(prompt[: len(prompt) // 2], answer, Templates())
    wanted = plain([*prompt.tolist(), -1, *answer.tolist()])
    less = plain([*prompt[: len(prompt) // 2].tolist(), -1, *answer.tolist()])
    assert len(mine) == len(wanted)
    assert jaccard(mine, other) == pytest.approx(len(wanted & less) / len(wanted | less))


def test_the_index_misses_hardly_anything_at_its_threshold() -> None:
    draw = np.random.default_rng(4)
    index, found, total = NearIndex(0.9), 0, 300
    rows = [np.unique(draw.integers(0, 2**32, 200, dtype=np.uint32)) for _ in range(total)]
    for row in rows:
        index.add(row)
    for row in rows:
        changed = np.unique(np.concatenate([row[:190], draw.integers(0, 2**32, 8, dtype=np.uint32)]))
        assert jaccard(row, changed) >= 0.9
        found += index.near(changed)
        assert not index.near(np.unique(np.concatenate([row[:150], changed[:1]])))
    assert found >= 0.99 * total
