"""A light guess of the language of a text: by script first, then by the commonest words. `unknown` where it cannot tell."""

from __future__ import annotations

import re

_WORDS = {
    "en": "the and of to in is you that it for on are with as this was be have from or what how",
    "fr": "le la les des et est une un dans que pour qui sur pas avec sont du au ce plus par nous vous",
    "de": "der die das und ist nicht ein eine zu den mit von für auf dem sich des im auch wir sie es wie",
    "es": "el los las y es una que en de por con para no se del al lo como más pero su está",
    "it": "il di che è la per un una non con sono del della gli le nel anche più come questo ma",
    "pt": "o os as e é uma que em de por com para não se do da no na mais como mas você",
    "nl": "de het een en van is dat niet op te in zijn met voor aan er maar ook wordt door",
}
_TABLE: dict[str, set[str]] = {}
for _name, _listed in _WORDS.items():
    for _word in _listed.split():
        _TABLE.setdefault(_word, set()).add(_name)

_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
)
_NOT_LATIN = re.compile(r"[\u0370-\u1fff\u3040-\ud7af]")
LOOK_AT = 300


def language(text: str) -> str:
    """Two-letter code of the likely language of the first few hundred characters, or `unknown`."""
    head = text[:LOOK_AT]
    if not head.isascii() and len(_NOT_LATIN.findall(head)) > 0.15 * len(head):
        counts = [(len(pattern.findall(head)), name) for name, pattern in _SCRIPTS]
        if counts[0][0]:
            return "ja"  # Japanese mixes in Chinese characters; kana decide
        best, name = max(counts)
        return name if best else "unknown"
    scores: dict[str, float] = {}
    for word in _TABLE.keys() & head.lower().split():
        hits = _TABLE[word]
        for name in hits:
            scores[name] = scores.get(name, 0.0) + 1.0 / len(hits)
    if not scores:
        return "unknown"
    best_name = max(scores, key=lambda name: scores[name])
    return best_name if scores[best_name] >= 1.5 else "unknown"
