"""The seam between Draftsmith and an engine: one protocol, and one place that knows the names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from draftsmith.contract.config import ENGINE_KINDS
from draftsmith.contract.measure import Arm
from draftsmith.contract.speculation import Speculation, read, read_words
from draftsmith.engines.catalog import ENGINES, engine, engine_of

SOURCE = Path(__file__).parents[2] / "src" / "draftsmith"
PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "0010-engine-names.md"
# Where an engine's name may stand outside its own folder, and why. Docstrings and comments are documents.
ALLOWED = dict(re.findall(r"^\| `([^`]+)` \| (\S.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def names_in(text: str) -> Iterator[str]:
    """Every name and every text of a module, without its docstrings."""
    tree = ast.parse(text)
    documents = {
        id(statement.value)
        for node in ast.walk(tree)
        for statement in (node.body if isinstance(getattr(node, "body", None), list) else ())
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)
            yield getattr(node, "module", None) or ""
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def test_an_engine_is_named_in_its_folder_and_where_a_reason_stands() -> None:
    found = set()
    for path in SOURCE.rglob("*.py"):
        name, words = str(path.relative_to(SOURCE)), "\n".join(names_in(path.read_text())).lower()
        if any(kind in words and not name.startswith(f"engines/{kind}/") for kind in ENGINES):
            found.add(name)
    unknown = {name for name in found if not name.startswith(tuple(ALLOWED))}
    assert not unknown, "ask the engine (wiring.engine), or add the file to the decision page with a reason"
    assert len(ALLOWED) > 20, "the table of the page is read"
    stale = {place for place in ALLOWED if not any(name.startswith(place) for name in found)}
    assert not stale, "the reason stands for nothing any more"


def test_the_search_for_names_can_fail() -> None:
    assert "vllm.x" in set(names_in("from vllm.x import y"))
    assert not [word for word in names_in('"""vllm"""\nx = 1') if "vllm" in word]


def test_the_catalog_holds_what_the_settings_offer() -> None:
    assert set(ENGINES) == set(ENGINE_KINDS)
    assert all(engine(kind).name == kind for kind in ENGINES)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("vllm", "serve", "m"), "vllm"),
        (("python", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"), "vllm"),
        (("python", "-m", "sglang.launch_server", "--model-path", "m"), "sglang"),
        (("sglang", "serve", "--model-path", "m"), "sglang"),
        (("nginx",), None),
    ],
)
def test_a_command_says_which_engine_it_starts(words: tuple[str, ...], kind: str | None) -> None:
    found = engine_of(words)
    assert (found.name if found else None) == kind


def test_what_a_speculative_config_says_is_read_once_and_written_back() -> None:
    config = {"method": "eagle3", "model": "/d", "num_speculative_tokens": 3, "draft_tensor_parallel_size": 1}
    said = read(config)
    assert said == Speculation(method="eagle3", draft="/d", k=3, rest={"draft_tensor_parallel_size": 1})
    assert said is not None
    assert said.config == config
    assert said.has_draft
    assert said.family == ("eagle3", "/d")
    assert read(None) is None
    odd = read({"method": 3, "num_speculative_tokens": "3", "model": ["x"]})
    assert odd == Speculation(), "what is of a wrong type is not said"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 4}'),
            Speculation(method="ngram", k=4),
        ),
        (("-sc", "[1]"), Speculation()),
        (("--spec-method=suffix", "--spec-tokens", "5"), Speculation(method="suffix", k=5)),
        (("--spec-model", "/d"), Speculation(draft="/d")),
        (("--max-num-seqs", "8"), None),
    ],
)
def test_a_command_line_is_read_for_what_it_says_of_speculation(
    words: tuple[str, ...], said: Speculation | None
) -> None:
    assert read_words(("vllm", "serve", "m", *words)) == said


def test_an_arm_that_names_the_usual_engine_keeps_its_hash() -> None:
    from draftsmith.contract.base import digest

    old, new = Arm(name="a", role="other"), Arm(name="a", role="other", engine="vllm")
    assert digest(old) == digest(new)
