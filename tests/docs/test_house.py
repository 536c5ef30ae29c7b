"""The house is in order: what the documents claim of the tree is so, and nothing of a builder's machine is in it."""

from __future__ import annotations

import re
import subprocess
import tomllib

from doc_pages import FENCE, ROOT, name, pages, tracked

from draftsmith.contract import errors
from draftsmith.contract.job import STATE_MEANING

README = ROOT / "README.md"
LARGEST_FILE_BYTES = 1_000_000


def test_tree_in_the_readme_is_the_tree() -> None:
    block = next(text for language, text in FENCE.findall(README.read_text(encoding="utf-8")) if language == "text")
    folders: list[str] = []
    claimed = set()
    for line in block.splitlines():
        entry = line.split()[0]
        del folders[(len(line) - len(line.lstrip())) // 2 :]
        claimed.add("/".join([*folders, entry.rstrip("/")]))
        folders.append(entry.rstrip("/"))
    assert not [path for path in claimed if not (ROOT / path).exists()]
    rooms = {
        name(path.parent) for path in tracked() if path.name == "__init__.py" and path.parents[1].name == "draftsmith"
    }
    assert rooms <= claimed


def test_exit_codes_in_operations_are_those_of_the_errors() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    shown = {int(code) for code in re.findall(r"^\| `(\d+)` \|", text, re.MULTILINE)}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DraftsmithError)
    ]
    assert shown == {0} | {kind.exit_code for kind in kinds}


def test_job_states_are_explained() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert not [state for state in STATE_MEANING if f"`{state}`" not in text]


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints" / "dev.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert not [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==(?:[0-9]+!)?[0-9][0-9a-z.]*", pin)]


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    asked += [item for items in project["project"]["optional-dependencies"].values() for item in items]
    pinned = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints" / "dev.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert not [item for item in asked if re.split(r"[^\w-]", item)[0].lower() not in pinned]


def test_scripts_can_be_run() -> None:
    scripts = [path for path in tracked() if path.parent == ROOT / ".ci"]
    assert scripts
    assert not [name(path) for path in scripts if not path.stat().st_mode & 0o100]
    for path in scripts:
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_nothing_of_a_builders_machine_is_tracked() -> None:
    # Written in pieces, so that this file does not hold what it looks for.
    hosts = ("pypi" + ".org", "python" + "hosted", "registry.npm" + "js", "deb." + "debian", "security." + "debian")
    places = r"(?<![\w.])/(?:wo" + "rk|fa" + "rm|tmp/l" + "ab|ro" + r"ot/\.|opt/wh" + "eels)(?:/|\\b)"
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{name(path)}: {host}" for host in hosts if host in text]
        found += [f"{name(path)}: {match[0]}" for match in re.finditer(places, text)]
    assert not found


def test_pages_speak_of_the_product_not_of_its_making() -> None:
    words = re.compile(
        r"\b(?:issue #?\d|this session|work session|helper session|the lead(?:'s)?\b(?! time)|as instructed|the brief)\b",
        re.IGNORECASE,
    )
    assert not [
        f"{name(page)}: {match[0]}" for page in pages() for match in words.finditer(page.read_text(encoding="utf-8"))
    ]


def test_tracked_files_are_small() -> None:
    assert not [name(path) for path in tracked() if path.stat().st_size > LARGEST_FILE_BYTES]
