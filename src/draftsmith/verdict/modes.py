"""Whether two arms were served in the same mode, by the engine's own word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from draftsmith.contract.measure import EngineFacts

MODE_FIELDS = (
    "version",
    "device",
    "dtype",
    "enforce_eager",
    "compile_mode",
    "graph_mode",
    "runner",
    "max_model_len",
    "max_num_seqs",
    "prefix_caching",
)
"""The fields behind `EngineFacts.mode_key`, in its order."""


def mode_mismatch(facts: Mapping[str, Sequence[EngineFacts]]) -> list[str]:
    """One sentence per mode field in which the arms, or two starts of one arm, differ. Empty = comparable.

    "Not said" is a value of its own: an arm whose log is silent does not match an arm whose log speaks.
    """
    sentences = [f"the engine's log gave no facts on arm {arm}" for arm, found in facts.items() if not found]
    for field in MODE_FIELDS:
        told = {arm: sorted({_word(getattr(fact, field)) for fact in found}) for arm, found in facts.items() if found}
        if len({word for words in told.values() for word in words}) > 1:
            parts = ", ".join(f"{' and '.join(words)} on {arm}" for arm, words in told.items())
            sentences.append(f"{field} differs: {parts}")
    return sentences


def settings_mismatch(facts: Mapping[str, Sequence[EngineFacts]]) -> list[str]:
    """One sentence per setting (see `EngineFacts.settings`) in which arms, or starts of one arm, differ.

    Engines that say nothing of their settings at all are not compared: the mode has judged their silence.
    """
    spoken = {arm: [fact for fact in found if fact.settings] for arm, found in facts.items()}
    spoken = {arm: found for arm, found in spoken.items() if found}
    sentences = []
    for name in sorted({name for found in spoken.values() for fact in found for name in fact.settings}):
        told = {arm: sorted({_word(fact.settings.get(name)) for fact in found}) for arm, found in spoken.items()}
        if len({word for words in told.values() for word in words}) > 1:
            parts = ", ".join(f"{' and '.join(words)} on {arm}" for arm, words in told.items())
            sentences.append(f"settings differ: {name} is {parts}")
    return sentences


def _word(value: object) -> str:
    return "not said" if value is None else str(value)
