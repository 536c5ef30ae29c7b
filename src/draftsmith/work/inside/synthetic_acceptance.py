"""Accepting drafted tokens by a chosen chance, in the engine's CPU build.

vLLM has this rule for GPUs (`rejection_sample_method: "synthetic"`). Its CPU build takes the setting and then stops at the
first drafted token, since its compiled sampler does not know the rule. The few lines here are the same rule; they are put in
place of the sampler's two entry points in a server that only a plan starts, and never in one that serves or is compared.
A step costs microseconds more by it, beside tens of milliseconds of the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def accept(
    drafted: Sequence[int], instead: Sequence[int], bonus: int, uniform: Sequence[float], rates: Sequence[float]
) -> list[int]:
    """Tokens that one step gives one sequence: accepted ones, then the target's token where the first was refused, or the bonus.

    `rates[i]` is the chance of position i if those before it were accepted. A drafted id below 0 is padding: refused.
    """
    given: list[int] = []
    for token, other, chance, rate in zip(drafted, instead, uniform, rates, strict=False):
        if token < 0 or chance >= rate:
            return [*given, other]
        given.append(token)
    return [*given, bonus]


class Rule:
    """Stands for one entry point of the engine's sampler; without synthetic rates it is the original."""

    def __init__(self, original: Any, *, greedy: bool) -> None:
        self.original, self.greedy = original, greedy

    def register_warmup(self, **options: Any) -> None:
        """Nothing to compile here; the original is asked only for what it can do."""
        if not options.get("synthetic_mode"):
            self.original.register_warmup(**options)

    def __call__(self, *arguments: Any) -> Any:
        """Positional arguments of the engine's own entry points; the rates are the last."""
        rates = arguments[-1]
        if rates is None:
            return self.original(*arguments)
        output, ends, drafted = arguments[:3]
        if self.greedy:
            instead, bonus, is_greedy, _, uniform = arguments[3:8]
        else:
            _, _, bonus, instead, uniform, is_greedy = arguments[3:9]
        chances = rates.tolist()
        flat_drafted, flat_instead, flat_uniform = drafted.tolist(), instead.tolist(), uniform.tolist()
        greedy_rows = [self.greedy] * len(output) if is_greedy is None else is_greedy.tolist()
        begin = 0
        for row, (end, last) in enumerate(zip(ends.tolist(), bonus.flatten().tolist(), strict=True)):
            span = slice(begin, end)
            begin = end
            if bool(greedy_rows[row]) != self.greedy:
                continue
            given = accept(flat_drafted[span], flat_instead[span], last, flat_uniform[span], chances)
            output[row, : len(given)] = output.new_tensor(given)
        return None


def install(sampler: Any) -> None:
    """Put the rule into the engine's module `vllm.v1.sample.rejection_sampler`.

    Raises ImportError if this release calls its entry points otherwise, so that the server does not start.
    """
    for name, greedy in (("_rejection_greedy_sample", True), ("_rejection_random_sample", False)):
        original = getattr(sampler, name, None)
        if original is None:
            raise ImportError(f"this vLLM has no {name}: synthetic acceptance cannot be put in place on CPU")
        if not isinstance(original, Rule):
            setattr(sampler, name, Rule(original, greedy=greedy))
