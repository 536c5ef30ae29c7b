"""The documents as data: pages, links, headings, and the command lines that they show."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """A command line in a document. `whole` False: only mentioned in a sentence, so its arguments may be missing."""

    page: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def tracked() -> list[Path]:
    """Files of the project: those git knows, and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def pages() -> list[Path]:
    """Every page for readers."""
    return [path for path in tracked() if path.suffix == ".md"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """What `#...` may name: headings, in lower case, punctuation dropped, spaces as dashes."""
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(prose(text)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def commands(page: Path, program: str) -> Iterator[Shown]:
    """Lines of fenced blocks, and code in sentences, that call `program`."""
    text = page.read_text(encoding="utf-8")
    for _, block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ").strip()
            if line.startswith(program + " "):
                yield Shown(name(page), tuple(shlex.split(line, comments=True))[1:], whole=True)
    for code in INLINE.findall(prose(text)):
        if code.startswith(program + " "):
            yield Shown(name(page), tuple(shlex.split(code))[1:], whole=False)
