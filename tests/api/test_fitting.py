"""What `doctor` and `run` say of a target on GPUs that are not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftsmith.api import fitting, machine_checks
from draftsmith.contract.config import BackendConfig, Config, EngineConfig, parse_config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import ConfigError, PrerequisiteError
from draftsmith.kit import gpu
from draftsmith.kit.files import write_json
from draftsmith.wiring import server_spec

LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072,
}  # fmt: skip
BYTES = 141_107_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "llama-70b").mkdir()
    write_json(tmp_path / "llama-70b" / "config.json", LLAMA_70B)
    return tmp_path / "llama-70b"


def on(monkeypatch: pytest.MonkeyPatch, *sizes: float) -> None:
    monkeypatch.setattr(gpu, "sizes_gib", lambda: list(sizes))
    monkeypatch.setattr(fitting, "_device", lambda config: "cuda")


def facts(folder: Path) -> TargetFacts:
    return TargetFacts(
        path=str(folder), architecture="LlamaForCausalLM", model_type="llama", num_layers=80, hidden_size=8192,
        vocab_size=128256, max_position_embeddings=131072, dtype="bfloat16", weight_bytes=BYTES, sha256="0", tokenizer_sha256="0",
    )  # fmt: skip


def said(config: Config, folder: Path) -> list[tuple[str, str]]:
    return [(found.level, found.sentence) for found in machine_checks.check_fit(config, facts(folder))]


def test_the_fewest_gpus_that_hold_it_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, *[79.6] * 8)
    settled = fitting.sized(Config(), folder, BYTES)
    assert settled.engine.gpus == 4
    assert server_spec(settled, str(folder)).tensor_parallel == 4
    assert said(Config(), folder)[0][1].startswith("a server takes 4 GPUs of 80 GiB: on each 32.9 GiB of weights")
    assert said(Config(), folder)[1][1].startswith("two servers do not fit beside each other")


def test_what_does_not_fit_is_refused_with_the_arithmetic(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, 79.6)
    with pytest.raises(PrerequisiteError, match=r"does not fit: 1 GPU of 80 GiB: .*131\.4 GiB of weights"):
        fitting.sized(Config(), folder, BYTES)
    assert said(Config(), folder)[0][0] == "missing"
    asked = Config(engine=EngineConfig(gpus=4))
    with pytest.raises(PrerequisiteError, match="takes 4 GPUs and 1 are here"):
        fitting.sized(asked, folder, BYTES)


@pytest.mark.parametrize(
    "flags", [("--tensor-parallel-size", "4"), ("-tp=4",), ("--tp 2", "--pipeline_parallel_size=2")]
)
def test_flags_of_the_user_are_the_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    on(monkeypatch, *[79.6] * 8)
    config = Config(engine=EngineConfig(flags=flags))
    assert config.engine.gpus_a_server == 4
    assert fitting.sized(config, folder, BYTES) == config
    assert server_spec(config, str(folder)).tensor_parallel == 1, "not said twice"


def test_two_numbers_are_a_contradiction() -> None:
    engine: dict[str, Any] = {"gpus": 2, "flags": ["--tensor-parallel-size", "4"]}
    with pytest.raises(ConfigError, match="set only one of them"):
        parse_config({"engine": engine}, "test")


def test_elsewhere_a_card_of_80_gb_is_assumed_and_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    there = Config(backend=BackendConfig(kind="slurm"))
    assert fitting.sized(there, folder, BYTES).engine.gpus == 4
    assert "assumed: set engine.gpu_memory_gib" in said(there, folder)[0][1]
    larger = there.model_copy(update={"engine": EngineConfig(gpu_memory_gib=140.4)})
    assert fitting.sized(larger, folder, BYTES).engine.gpus == 2


def test_a_cpu_without_the_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_device", lambda config: "cpu")
    large = facts(folder).model_copy(update={"weight_bytes": 10**13})
    [check] = machine_checks.check_fit(Config(), large)
    assert check.level == "missing"
    assert "9313 of weights" in check.sentence


@pytest.mark.parametrize(("reach", "asked", "served"), [(512, None, 512), (4096, None, 2048), (512, 1024, 1024)])
def test_a_context_that_nobody_asked_for_is_no_longer_than_the_target_reaches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, reach: int, asked: int | None, served: int
) -> None:
    monkeypatch.setattr(fitting, "room", lambda config: None)
    write_json(folder / "config.json", LLAMA_70B | {"max_position_embeddings": reach})
    config = Config.model_validate({"engine": {} if asked is None else {"max_model_len": asked}})
    assert fitting.sized(config, folder, BYTES).engine.max_model_len == served
