"""The real engine, beyond the stories that all engines share (test_engine_stories.py): a wrong flag, and captured states."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from draftsmith.api.precision import precision_flags
from draftsmith.client.replay import Request
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import EngineStartError
from draftsmith.engines.base import CaptureSpec, ServerSpec
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir
from draftsmith.work import states
from draftsmith.work.inside.probe_plan import CapturedRow, ProbePlan, engine_logprobs

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
READY_S = 600.0
FLAGS = precision_flags()
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DRAFTSMITH_TARGET, or the demo target built once."""
    if given := os.environ.get("DRAFTSMITH_TARGET"):
        return Path(given)
    from draftsmith.work.inside.demo_target import build

    return build(tmp_path_factory.mktemp("target") / "smollm2")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[VllmEngine]:
    made = VllmEngine(tmp_path / "processes")
    yield made
    for path, record in processes.records(made.registry):
        processes.stop(processes.Process(record, path))


def test_a_flag_that_does_not_exist_is_named(engine: VllmEngine, target: Path, tmp_path: Path) -> None:
    server = engine.start(ServerSpec(model=str(target), flags=("--no-such-flag",)), tmp_path)
    with pytest.raises(EngineStartError, match="does not know the flag --no-such-flag"):
        engine.wait_ready(server, READY_S)
    assert processes.members(server.process.record) == []


def test_states_of_sampled_answers_are_proved_by_the_engines_own_log_probabilities(
    engine: VllmEngine, target: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    from draftsmith.work.inside.probe import probe

    depth = json.loads((target / "config.json").read_text())["num_hidden_layers"]
    capture = CaptureSpec(layer_ids=(2, depth // 2, depth), storage=str(tmp_path / "incoming"))
    spec = ServerSpec(
        model=str(target), flags=FLAGS, capture=capture, enforce_eager=True, cpu_kv_gib=1, max_model_len=512
    )
    server = engine.start(spec, tmp_path / "logs")
    engine.wait_ready(server, READY_S)
    asked = [
        Request(f"r{n}", [{"role": "user", "content": text}], params={"temperature": 0.8, "seed": n}, max_tokens=40)
        for n, text in enumerate(
            ("Tell me of rivers.", "Name three birds and what they eat.", "Hello!", "Why is it so?")
        )
    ]
    answers: list[AccessRecord] = []
    states.capture(asked, server, private_dir(tmp_path / "states"), 4, lambda reply: answers.append(reply.record))
    assert [record.error for record in answers] == [None] * 4
    fed = [Request(r.id, prompt_token_ids=[*(r.prompt_token_ids or ()), *(r.output_token_ids or ())][:-1], max_tokens=1)
           for r in answers]  # fmt: skip
    told = states.logprobs(fed, server, 4)
    engine.stop(server)
    rows = [
        CapturedRow(
            file=str(states.states_path(tmp_path / "states", r.id)), prompt_ids=tuple(r.prompt_token_ids or ()),
            output_ids=tuple(r.output_token_ids or ()), greedy=False, concurrency=4,
            prompt_logprobs=engine_logprobs(told[r.id]),
        )
        for r in answers
    ]  # fmt: skip
    plan = ProbePlan(target=str(target), layer_ids=capture.layer_ids, rows=tuple(rows))
    report = probe(plan)
    assert report.passed, report
    mixed = [row.model_copy(update={"prompt_logprobs": rows[0].prompt_logprobs}) for row in rows]
    assert not probe(plan.model_copy(update={"rows": tuple(mixed)})).passed
