"""Prompts made to bench shapes, for a profile that has lengths and no text: word problems, as many as fill a prompt.

A draft trained on them learns word problems: what is measured so is the cost of these lengths, not the acceptance of anybody's traffic.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from draftsmith.contract.profile import BenchShape
from draftsmith.traffic.demo import word_problem
from draftsmith.traffic.tokens import Counter

PROMPTS = 400
ASK = "Solve these problems one after the other, step by step. End each with the line 'Answer: <number>'."


def fitting(shapes: Sequence[BenchShape], tokens: int) -> tuple[tuple[BenchShape, ...], tuple[BenchShape, ...]]:
    """(shapes whose prompt and answer fit into `tokens`, the others)."""
    inside = tuple(shape for shape in shapes if shape.isl + shape.osl < tokens)
    return inside, tuple(shape for shape in shapes if shape not in inside)


def shaped_prompts(
    shapes: Sequence[BenchShape], counter: Counter, count: int = PROMPTS, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """`count` requests (id, route, messages, max_tokens) of the shapes, in proportion to their weights.

    Rendered by the target's own template a prompt has the shape's input length, or a few tokens less.
    """
    chance = random.Random(seed)  # noqa: S311 - variety, not secrecy
    weights = [shape.weight or 1.0 for shape in shapes]
    taken = [0.0] * len(shapes)
    for number in range(count):
        at = min(range(len(shapes)), key=lambda place: taken[place] / weights[place])
        taken[at] += 1
        shape = shapes[at]
        yield {
            "id": f"{shape.name}-{number:04d}",
            "route": shape.name,
            "messages": _filled(shape.isl, counter, chance),
            "max_tokens": shape.osl,
        }


def _filled(length: int, counter: Counter, chance: random.Random) -> list[dict[str, str]]:
    """One message of about `length` tokens as rendered: problems are added while they fit."""
    room = length - counter.count(counter.render([{"role": "user", "content": ASK}]))
    lines: list[str] = []
    while room > 0:
        line = f"{len(lines) + 1}. {word_problem(chance)}"
        room -= counter.count("\n" + line)
        if room < 0 and lines:
            break
        lines.append(line)
    return [{"role": "user", "content": "\n".join([ASK, *lines])}]
