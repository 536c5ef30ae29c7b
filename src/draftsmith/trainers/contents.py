"""What a file is by its first bytes, whatever its name says: a program, a pickle, text, weights, or nothing that is known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Kind = Literal["program", "pickle", "text", "weights", "picture", "unknown"]

HEAD_BYTES = 4096
PROGRAMS = (
    ".py", ".pyc", ".pyd", ".pyz", ".ipynb", ".so", ".dll", ".dylib", ".exe", ".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1",
    ".pl", ".rb", ".js", ".mjs", ".lua", ".jar", ".whl", ".egg", ".mar", ".deb", ".rpm",
)  # fmt: skip
SHARED_OBJECT = re.compile(r"\.so(\.\d+)*$")
PICKLES = (
    ".bin",
    ".pt",
    ".pt2",
    ".pth",
    ".pkl",
    ".pickle",
    ".cloudpickle",
    ".dill",
    ".ckpt",
    ".joblib",
    ".npy",
    ".npz",
)
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"\0\0\1\0")
SCRIPT = b"#!"
EXECUTABLES = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")
ARCHIVES = (b"PK\3\4", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"\x93NUMPY")
TOKENIZERS = (".model",)  # sentencepiece's own form


def kind_of(path: Path) -> Kind:
    """The kind of a regular file, by its name and its first bytes. Raises OSError if it cannot be read."""
    name = path.name.lower()
    with path.open("rb") as source:
        head = source.read(HEAD_BYTES)
    if path.suffix == ".safetensors":
        return "weights"  # read by its header, and refused if it has none
    text = _is_text(head)
    if (
        name.endswith(PROGRAMS)
        or SHARED_OBJECT.search(name)
        or head.startswith(SCRIPT)
        or (not text and head.startswith(EXECUTABLES))
    ):
        return "program"
    if name.endswith(PICKLES) or _is_pickle(head):
        return "pickle"
    if head.startswith(PICTURES):
        return "picture"
    return "text" if text or name.endswith(TOKENIZERS) else "unknown"


def _is_pickle(head: bytes) -> bool:
    """Whether it can hold a pickle: by the mark of protocols 2 and later, or as an archive, which torch and numpy write."""
    return (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5) or head.startswith(ARCHIVES)


def _is_text(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as problem:
        if problem.end < len(head) - 3:  # the last character may be cut in two
            return False
    return b"\0" not in head
