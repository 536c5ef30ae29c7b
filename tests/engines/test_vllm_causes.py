"""A failed start is named in one sentence. The logs are of real failed starts, shortened."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from draftsmith.engines.vllm import causes

Recorded = Callable[[str], str]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown-flag", "does not know the flag --no-such-flag"),
        ("unknown-method", "speculative config is not valid: method"),
        ("metrics-without-speculation", "per-request metrics"),
        ("architecture", "does not support the architecture 'NoSuchForCausalLM'"),
        ("no-model", "does not exist"),
        ("no-draft", "does not exist"),
        ("no-weights", "lacks files"),
        ("draft-vocabulary", "its vocabulary does not fit the target's"),
        ("shape", "shape mismatch"),
        ("kv-memory", "too little memory for the KV cache"),
        ("port", "port is taken"),
    ],
)
def test_recorded_failures_are_recognised(recorded: Recorded, name: str, said: str) -> None:
    text = recorded(f"logs/fail-{name}.log")
    found = causes.diagnose(text, 1)
    assert found.recognised
    assert said in found.cause
    assert "\n" not in found.cause
    assert found.next_step


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPU ran out of memory"),
        (
            "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU",
            "less free memory",
        ),
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "KV cache"),
        ("RuntimeError: operator torchvision::nms does not exist", "torchvision"),
        ("OSError: [Errno 28] No space left on device: '/cache/vllm/torch_compile_cache'", "the disk is full"),
        ("ModuleNotFoundError: No module named 'arctic_inference'", "lacks the module arctic_inference"),
        ("KeyError: 'model.layers.0.midlayer.weight'", "does not have: model.layers.0.midlayer.weight"),
        ("safetensors.SafetensorError: Error while deserializing header: HeaderTooLarge", "damaged"),
        ("RuntimeError: Failed to infer device type, please set the environment", "no device"),
    ],
)
def test_other_known_errors_are_recognised(line: str, said: str) -> None:
    assert said in causes.diagnose(f"Traceback (most recent call last):\n{line}\n", 1).cause


def test_the_same_words_in_a_warning_of_a_living_engine_mean_nothing(recorded: Recorded) -> None:
    noise = "(Worker pid=1) WARNING 11-21 22:01:27 [x.py:1] No module named 'flash_attn', KV cache space is default\n"
    found = causes.diagnose(noise + recorded("logs/ngram-0.32.log"), 1)
    assert not found.recognised


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_is_put_down_to_memory(recorded: Recorded, code: int) -> None:
    assert "memory runs out" in causes.diagnose(recorded("logs/ngram-0.32.log"), code).cause


def test_a_killed_worker_is_told_from_a_killed_server() -> None:
    text = (
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}"
    )
    assert "killed (signal 9)" in causes.diagnose(text, 1).cause
    assert "worker process" in causes.diagnose("Worker proc VllmWorker-0 died unexpectedly", 1).cause


def test_other_signals_are_named() -> None:
    assert "ended by SIGTERM" in causes.diagnose("", -15).cause


def test_an_unknown_failure_shows_its_last_error_and_says_that_it_is_not_recognised() -> None:
    found = causes.diagnose("Traceback (most recent call last):\nzmq.error.ZMQError: weather\n", 1)
    assert not found.recognised
    assert found.cause == "the engine failed with code 1: zmq.error.ZMQError: weather"


def test_the_tail_holds_the_root_cause_and_no_words_of_a_user(recorded: Recorded) -> None:
    text = recorded("logs/fail-no-weights.log")
    text += "(APIServer pid=1) INFO 11-21 22:01:49 [x.py:1] Received request chat-1: 'my secret'\n"
    text += "(APIServer pid=1) DEBUG 11-21 22:01:49 [x.py:1] prompt='my secret'\n"
    shown = causes.tail(text)
    assert "Cannot find any model weights" in shown
    assert "my secret" not in shown
    assert len(shown.split("\n")) <= causes.TAIL_LINES
