"""Settings as an engine prints them into its log: split, and made fit for the record. Pure."""

from __future__ import annotations

import hashlib
import re

SECRET = re.compile(r"key|token(?!s|izer)|password|secret|credential|ssl|header")
PLAIN = re.compile(r"[\w.+-]{1,40}", re.ASCII)


def top_level(text: str, separator: str) -> dict[str, str]:
    """Split `a=1, b=F(x=2, y=[3]), c='d, e'` at its outermost commas into {a: 1, b: F(x=2, y=[3]), ...}.

    Python's own parser cannot be used: values hold names such as `<CUDAGraphMode.NONE: 0>`.
    """
    parts: dict[str, str] = {}
    depth, quote, begin = 0, "", 0
    for index, char in enumerate(text + ","):
        if quote:
            quote = "" if char == quote and text[index - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char in "([{<":
            depth += 1
        elif char in ")]}>":
            depth -= 1
        elif char == "," and depth <= 0:
            name, mark, value = text[begin:index].strip().partition(separator)
            if mark:
                parts[name] = value
            begin = index + 1
    return parts


def word(value: str) -> str:
    """A number, a switch or a name as it is; anything else (paths, nested settings) by its hash."""
    bare = value.strip("'\"")
    return bare if PLAIN.fullmatch(bare) else f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:12]}"
