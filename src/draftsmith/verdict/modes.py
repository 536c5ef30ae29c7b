"""Whether two arms were served in the same mode, by the engine's own word.

Two engines have no mode in common: another version, other graphs, other runners are what is compared. What would make the
same engine look faster has to match in both: device, data type, lengths, batch size, prefix cache. Everything else is
compared within each engine alone.
"""

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
ACROSS = ("device", "dtype", "max_model_len", "max_num_seqs", "prefix_caching")
"""Those that two engines have to share."""


def mode_mismatch(facts: Mapping[str, Sequence[EngineFacts]]) -> list[str]:
    """One sentence per mode field in which the arms, or two starts of one arm, differ. Empty = comparable.

    "Not said" is a value of its own: an arm whose log is silent does not match an arm whose log speaks.
    """
    sentences = [f"the engine's log gave no facts on arm {arm}" for arm, rows in facts.items() if not rows]
    spoken = {arm: rows for arm, rows in facts.items() if rows}
    groups = _by_engine(spoken)
    if len(groups) > 1:
        sentences += _differences(spoken, ACROSS)
    fields = [field for field in MODE_FIELDS if len(groups) == 1 or field not in ACROSS]
    return sentences + [sentence for group in groups for sentence in _differences(group, fields)]


Facts = Mapping[str, Sequence[EngineFacts]]


def _by_engine(facts: Facts) -> list[Facts]:
    """Arms by the engine that they name. One that could not be told which it is stands with all the others."""
    named = {fact.engine for rows in facts.values() for fact in rows} - {"unknown"}
    if len(named) < 2:
        return [facts]
    return [
        {arm: rows for arm, rows in facts.items() if {fact.engine for fact in rows} & {name, "unknown"}}
        for name in sorted(named)
    ]


def _differences(facts: Facts, fields: Sequence[str]) -> list[str]:
    sentences = []
    for field in fields:
        words_of = {arm: sorted({_word(getattr(fact, field)) for fact in starts}) for arm, starts in facts.items()}
        if len({word for words in words_of.values() for word in words}) > 1:
            parts = ", ".join(f"{' and '.join(words)} on {arm}" for arm, words in words_of.items())
            sentences.append(f"{field} differs: {parts}")
    return sentences


def settings_mismatch(facts: Mapping[str, Sequence[EngineFacts]]) -> list[str]:
    """One sentence per setting (see `EngineFacts.settings`) in which arms, or starts of one arm, differ.

    Engines that say nothing of their settings at all are not compared: the mode has judged their silence.
    """
    spoken = {arm: [fact for fact in starts if fact.settings] for arm, starts in facts.items()}
    spoken = {arm: starts for arm, starts in spoken.items() if starts}
    return [sentence for group in _by_engine(spoken) for sentence in _settings(group)]


def _settings(spoken: Facts) -> list[str]:
    sentences = []
    for name in sorted({name for starts in spoken.values() for fact in starts for name in fact.settings}):
        words_of = {arm: sorted({_word(fact.settings.get(name)) for fact in starts}) for arm, starts in spoken.items()}
        if len({word for words in words_of.values() for word in words}) > 1:
            parts = ", ".join(f"{' and '.join(words)} on {arm}" for arm, words in words_of.items())
            sentences.append(f"settings differ: {name} is {parts}")
    return sentences


def _word(value: object) -> str:
    return "not said" if value is None else str(value)
