"""The prompts of a plan: the profile's lengths, and nothing of its text."""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.contract.profile import BenchShape
from draftsmith.corpus.prompts import Prompt

PERIOD = 24  # prompts repeat a random phrase of this many tokens, so that n-gram lookup has matches


def sent_lengths(shape: BenchShape, tokens: int, context: int) -> tuple[int, int]:
    """(tokens of the prompt, tokens of the answer) that are really sent for a shape, where an answer is cut at `tokens`."""
    wanted = max(8, min(shape.osl, tokens))
    return max(2, min(shape.isl, context - wanted - 1)), wanted


def plan_prompts(
    shapes: Sequence[BenchShape], concurrency: int, tokens: int, vocab: int, context: int
) -> tuple[Prompt, ...]:
    """Prompts of the profile's lengths and no text: random token ids, a phrase repeated. At least two rounds of the batch.

    Costs do not depend on what the tokens mean, and a file of aggregates is then enough to plan from. Answers go on to
    their limit whatever is generated, so that all servers do the same work.
    """
    import numpy as np

    count = max(3, 2 * concurrency)
    chance = np.random.default_rng(0)
    low = min(256, vocab // 4)  # special tokens tend to lie at the ends of a vocabulary
    prompts = []
    for number in range(count):
        shape = _shape(shapes, (number + 0.5) / count)
        length, wanted = sent_lengths(shape, tokens, context)
        phrase = chance.integers(low, max(low + 1, vocab - low), PERIOD)
        prompts.append(
            Prompt(
                prompt_id=f"plan-{number:03d}",
                content_class=shape.name,
                prompt_token_ids=np.resize(phrase, length).tolist(),
                params={"temperature": 0, "ignore_eos": True},
                max_tokens=wanted,
            )
        )
    return tuple(prompts)


def _shape(shapes: Sequence[BenchShape], share: float) -> BenchShape:
    total, seen = sum(shape.weight for shape in shapes), 0.0
    for shape in shapes:
        seen += shape.weight / total
        if share <= seen:
            return shape
    return shapes[-1]
