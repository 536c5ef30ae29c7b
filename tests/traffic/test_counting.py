"""Counting fast must be counting right: piecewise tokens, bounded memory of what was seen, spreads put back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from depth import examples
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from draftsmith.contract.errors import InputError
from draftsmith.profiling.bounded import Clock, Seen
from draftsmith.profiling.lengths import Lengths, distribution
from draftsmith.traffic.pieces import PieceCounter, special_tokens
from draftsmith.traffic.tokens import Counter, load_counter

from .conftest import TEXT

odd = st.text(alphabet=st.sampled_from(list("ab1_ \n\t.,'(é汉<|")), max_size=60)


@examples(60)
@given(st.lists(st.one_of(odd, st.text(max_size=40)), min_size=1, max_size=80))
def test_piecewise_counts_are_the_tokenizers_own(tokenizer: Path, texts: list[str]) -> None:
    counter = load_counter(tokenizer)
    for text in texts * 2:
        assert counter.count(text) == len(counter.tokenizer.encode(text, add_special_tokens=False))


# The word patterns of published tokenizers: GPT-2's own, with single digits as in SmolLM2, Llama 3's and Qwen's.
_LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


WORDS = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "digits": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama3": lambda: _split(_LLAMA),
    "qwen2": lambda: _split(_LLAMA.replace("{1,3}", "")),
}
CHAT_SPECIALS = ["<|im_start|>", "<|im_end|>", "<|im|>"]


@pytest.fixture(scope="session", params=WORDS)
def published(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer that cuts words as a published one does, trained on text with long words and runs of white space."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = WORDS[request.param]()
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=CHAT_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    source = (
        "def f(x):\n        if x:\n            return {\n                1: x,\n\n\n  }\n\t\tpass  # done\r\n  end\n"
    )
    made.train_from_iterator([TEXT, source] * 20, trainer)
    return made


tail = st.text(alphabet=st.sampled_from(list("ab1_ \n\t\r.,'({:é汉<|>")), max_size=40)
message = st.tuples(
    st.sampled_from(["system", "user", "assistant"]), st.one_of(tail, st.sampled_from(["<|im|>", TEXT]))
)


@examples(60)
@given(chats=st.lists(st.lists(message, max_size=5), min_size=1, max_size=12))
def test_a_chat_is_the_exact_sum_of_its_parts(published: Tokenizer, chats: list[list[tuple[str, str]]]) -> None:
    """Special tokens cut the text before words are merged: parts between them, counted alone, add up."""
    texts = ["".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in chat) for chat in chats]
    pattern = special_tokens(published)
    assert pattern is not None

    def alone(text: str) -> int:
        return len(published.encode(text, add_special_tokens=False))

    whole = [alone(text) for text in texts]
    assert whole == [sum(map(alone, pattern.split(text))) + len(pattern.findall(text)) for text in texts]
    counter = PieceCounter(published)
    assert [counter.count(texts), counter.count(texts[::-1])[::-1]] == [whole, whole]


def test_texts_met_again_are_not_encoded_again(published: Tokenizer) -> None:
    class Listening:
        """The tokenizer, and what it was asked."""

        def __init__(self) -> None:
            self.asked: list[str] = []

        def encode_batch_fast(self, texts: list[str], **how: bool) -> object:
            self.asked += texts
            return published.encode_batch_fast(texts, **how)

        def __getattr__(self, name: str) -> object:
            return getattr(published, name)

    listening = Listening()
    counter = PieceCounter(listening)
    counter.count([f"trial {number}" for number in range(64)])  # by now it is trusted
    system = "<|im_start|>system\nYou answer every question in one short sentence.<|im_end|>\n"
    first, second = (f"{system}<|im_start|>user\n{word} fox<|im_end|>\n" for word in ("quick", "lazy"))
    counter.count([first])
    listening.asked.clear()
    assert counter.count([second, first, second]) == [len(published.encode(one)) for one in (second, first, second)]
    assert listening.asked == ["user\nlazy"], "one new piece, once"


def test_special_tokens_that_do_more_than_cut_are_left_to_the_tokenizer(published: Tokenizer) -> None:
    greedy = Tokenizer.from_str(published.to_str())
    greedy.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    assert special_tokens(greedy) is None
    changing = Tokenizer.from_str(published.to_str())
    changing.normalizer = normalizers.Lowercase()
    changing.add_tokens([AddedToken("<tool>", normalized=True)])
    assert special_tokens(changing) is None
    text = "a <mask> b <TOOL> c<|im_end|> d"
    for tokenizer in (greedy, changing):
        assert PieceCounter(tokenizer).count([text] * 3) == [len(tokenizer.encode(text))] * 3


def test_a_tokenizer_that_joins_words_is_asked_directly() -> None:
    merging = Tokenizer(models.BPE(vocab={"a": 0, " ": 1, "b": 2, "a ": 3, "a b": 4}, merges=[("a", " "), ("a ", "b")]))
    counter = Counter(merging, "merging", 5)
    assert counter.count("a b") == 1
    assert counter.count("a ba b") == 2


def test_a_template_that_refuses_a_conversation_is_left_aside(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ raise_exception(\'no\') }}"}')
    counter = load_counter(tmp_path)
    assert counter.render([{"role": "user", "content": "hello"}]) == "hello"


def test_one_refused_conversation_does_not_cost_the_others_their_template(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    template = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}<{{ m.content }}>{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    counter = load_counter(tmp_path)
    assert counter.render([{"role": "tool", "content": "a"}]) == "a"
    assert counter.render([{"role": "user", "content": "a"}]) == "<a>"


@pytest.mark.parametrize("content", [None, "not json", '{"model": 1}'])
def test_a_file_that_is_no_tokenizer_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer"):
        load_counter(tmp_path)


def test_a_hundred_thousand_names_are_told_apart() -> None:
    names = np.random.default_rng(0).integers(1, 1 << 63, 100_000).astype(np.uint64)
    seen = Seen()
    fresh = [seen.check_and_add(part) for part in np.split(names, 50)]
    assert not np.concatenate(fresh).any()
    assert seen.check_and_add(names).all()
    assert not seen.check_and_add(np.zeros(3, np.uint64)).any(), "zero means that there is no name"


def test_a_year_of_seconds_fits_the_clock() -> None:
    rng = np.random.default_rng(1)
    clock = Clock()
    for month in range(12):
        start = 1.7e9 + month * 2.6e6 + np.sort(rng.uniform(0, 2.6e6, 10_000))
        clock.add(start, np.full(10_000, 40.0))
    found = clock.summary()
    assert len(clock.starts) <= 100_000
    assert found["arrival_rate_per_s"] == pytest.approx(120_000 / (12 * 2.6e6), rel=0.02)
    assert found["concurrency_mean"] == pytest.approx(120_000 * 40 / (12 * 2.6e6), rel=0.03)


def test_a_biased_guess_does_not_bias_the_percentiles() -> None:
    rng = np.random.default_rng(2)
    truth = rng.lognormal(6, 0.9, 60_000).astype(np.int64) + 1
    guesses = truth * 1.3 * rng.lognormal(0, 0.08, len(truth))
    sampled = rng.random(len(truth)) < 0.05
    lengths = Lengths()
    lengths.add_exact(truth[sampled])
    lengths.add_guesses(guesses[~sampled])
    lengths.add_pairs(guesses[sampled], truth[sampled], np.ones(int(sampled.sum())))
    found = distribution(*lengths.histogram())
    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        assert value == pytest.approx(float(np.quantile(truth, share)), rel=0.01)
