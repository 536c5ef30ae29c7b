"""The stand-in for SGLang says nothing that a recorded server of 0.5.17 does not say, in the same form."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from material import shared

from draftsmith.engines.sglang import log, metrics

FAKES = Path(__file__).parent.parent / "fakes"
SERIES = re.compile(r"^(sglang:\w+)\{([^}]*)\}", re.MULTILINE)


@pytest.fixture(scope="module")
def fake() -> Iterator[Any]:
    """The module, with the stand-ins before what is installed, and nothing of them left behind."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("vllm", "sglang")}
    for name in kept:
        del sys.modules[name]
    with pytest.MonkeyPatch.context() as patch:
        for site in ("vllm_site", "sglang_site"):
            patch.syspath_prepend(str(FAKES / site))
        yield importlib.import_module("sglang.launch_server")
    for name in [name for name in sys.modules if name.split(".")[0] in ("vllm", "sglang")]:
        del sys.modules[name]
    sys.modules.update(kept)


def recording(name: str) -> str:
    return shared("cases", "sglang", name).read_text()


def options(fake: Any, **said: Any) -> argparse.Namespace:
    empty = {name.replace("-", "_"): None for name in (*fake.TEXTS, *fake.NUMBERS)}
    switches = {name.replace("-", "_"): False for name in fake.SWITCHES}
    return argparse.Namespace(**{**empty, **switches, "max_running_requests": 8, "context_length": 512, **said})


def shapes(text: str) -> set[tuple[str, tuple[str, ...]]]:
    found = SERIES.findall(text)
    return {(name, tuple(sorted(re.findall(r'(\w+)="', labels)))) for name, labels in found}


@pytest.mark.parametrize(("kept", "k"), [("base.metrics", 0), ("eagle.metrics", 3)])
def test_its_metrics_are_a_part_of_a_real_servers(fake: Any, kept: str, k: int) -> None:
    algorithm = "EAGLE3" if k else None
    settings = fake.Settings(options(fake, speculative_algorithm=algorithm, speculative_num_draft_tokens=k + 1))
    counters = fake.Counters("target", settings)
    counters.count(5, [1, *[k + 1] * 4], "length", 0.1)
    assert shapes(counters.text()) <= shapes(recording(kept))
    read = metrics.parse_metrics(counters.text())
    assert metrics.speculates(read) is bool(k)
    assert read.start_id


@pytest.mark.parametrize(("kept", "algorithm"), [("base.log", None), ("eagle.log", "EAGLE3")])
def test_its_log_gives_the_facts_that_a_real_log_gives(
    fake: Any, capsys: pytest.CaptureFixture[str], kept: str, algorithm: str | None
) -> None:
    asked = options(fake, speculative_algorithm=algorithm, speculative_num_draft_tokens=4, model_path="m")
    fake.announce(asked, fake.Settings(asked))
    printed = capsys.readouterr().out
    ours, theirs = log.facts(printed, "a"), log.facts(recording(kept), "a")
    said = {name for name, value in ours if value not in (None, (), {})}
    assert said | {"warnings"} == {name for name, value in theirs if value not in (None, (), {})} | {"warnings"}
    assert ours.spec_method == theirs.spec_method
    assert ours.num_speculative_tokens == theirs.num_speculative_tokens
    assert set(ours.settings) <= set(theirs.settings)


def test_its_stages_are_those_of_a_real_start(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked = options(fake)
    fake.announce(asked, fake.Settings(asked))
    marks = [mark for mark, _ in log.STAGES if mark in capsys.readouterr().out]
    real = recording("eagle.log")
    assert all(mark in real for mark in marks)


def test_its_arguments_have_the_names_of_real_ones(fake: Any) -> None:
    asked = options(fake)
    said = set(fake.arguments(asked, fake.Settings(asked)))
    line = next(line for line in recording("base.log").splitlines() if "server_args=" in line)
    assert said <= set(re.findall(r"[(\s](\w+)=", line))
