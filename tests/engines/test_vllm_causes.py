"""A failed start is named in one sentence. The logs are of real failed starts, shortened."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from material import shared

from draftsmith.engines.diagnosis import TAIL_LINES, tail
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
    shown = tail(text)
    assert "Cannot find any model weights" in shown
    assert "my secret" not in shown
    assert len(shown.split("\n")) <= TAIL_LINES


def logged(process: str, *lines: str) -> str:
    """Lines as a process of the engine logs an exception."""
    return "".join(f"({process} pid=7) ERROR 09-01 10:00:00 [core.py:712] {line}\n" for line in lines)


def crashed(error: str, process: str = "EngineCore") -> str:
    return logged(
        process, "Traceback (most recent call last):", '  File "/x/model.py", line 1, in f', "    run()", error
    )


DIED = logged("EngineCore", "EngineCore encountered a fatal error.")
NOTICED = crashed(
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace", "APIServer"
)
WORKER_FAILED = logged("Worker_TP1", "WorkerProc failed to start.")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "illegal memory access"),
        ("RuntimeError: CUDA error: device-side assert triggered", "stopped at an assertion"),
        ("RuntimeError: query and key must have the same dtype", "different data types"),
        ("RuntimeError: Model does not support EAGLE3 interface but aux_hidden_state_outputs was requested", "EAGLE3"),
        ("ValueError: Unsupported model_type deepseek_v3 for Eagle3 speculator", "model type deepseek_v3"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPU ran out of memory"),
        ("ValueError: World size (4) is larger than the number of available GPUs (2)", "more GPUs"),
        ("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO)", "NCCL"),
        ("PermissionError: [Errno 13] Permission denied: '/models/m'", "may not read"),
        ("ImportError: /x/_C.abi3.so: undefined symbol: _ZN3c10", "does not fit the others"),
    ],
)
def test_a_crash_is_named_by_its_own_error_not_by_who_noticed_it(error: str, said: str) -> None:
    for process in ("EngineCore", "EngineCore_DP0", "Worker_TP1"):
        found = causes.diagnose(DIED + WORKER_FAILED + crashed(error, process) + NOTICED, 1)
        assert found.recognised, error
        assert said in found.cause
        assert "out-of-memory killer" not in found.next_step


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "(APIServer pid=1) ",
        "(EngineCore_0 pid=3) ",
        "(VllmWorker rank=1 pid=9) ",
        "(RayWorker pid=4, ip=10.0.0.2) ",
    ],
)
def test_an_unknown_error_is_told_in_its_own_words_whatever_stands_before_it(prefix: str) -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/x.py", line 1, in f',
        "    go()",
        "ValueError: no such thing as a moon",
    )
    found = causes.diagnose("".join(f"{prefix}{line}\n" for line in lines), 1)
    assert not found.recognised
    assert found.cause == "the engine failed with code 1: ValueError: no such thing as a moon"


def test_an_error_that_was_survived_does_not_name_the_crash() -> None:
    """An earlier error of a known kind would hide the last one, which is of none."""
    text = crashed("ModuleNotFoundError: No module named 'flash_attn'") + crashed("RuntimeError: the moon is missing")
    found = causes.diagnose(text + NOTICED, 1)
    assert not found.recognised
    assert "the moon is missing" in found.cause


def test_processes_that_write_at_once_are_read_apart() -> None:
    one = crashed("RuntimeError: size mismatch for lm_head", "Worker_TP0").splitlines(keepends=True)
    other = crashed("RuntimeError: cancelled: Connection closed by remote peer", "Worker_TP1").splitlines(keepends=True)
    mixed = "".join(line for pair in zip(one, other, strict=True) for line in pair)
    assert "shape mismatch" in causes.diagnose(WORKER_FAILED + mixed + NOTICED, 1).cause


def test_what_an_error_was_raised_from_counts() -> None:
    first = crashed("AssertionError: loaded_weight")
    chain = logged("EngineCore", "", "The above exception was the direct cause of the following exception:", "")
    second = crashed("RuntimeError: loading failed")
    assert "shape mismatch" in causes.diagnose(first + chain + second, 1).cause


def test_a_crash_in_native_code_is_no_kill() -> None:
    assert "native code (Segfault)" in causes.diagnose("!!!!!!! Segfault encountered !!!!!!!\n", 1).cause
    assert "native code (SIGSEGV)" in causes.diagnose("", -11).cause
    assert "/dev/shm" in causes.diagnose("", -7).next_step


def test_what_a_user_wrote_is_not_in_the_cause() -> None:
    found = causes.diagnose(crashed("ValueError: prompt: 'my secret' is too long"), 1)
    assert "secret" not in found.cause
    assert not found.recognised


def test_a_dead_engine_without_any_error_is_still_told() -> None:
    found = causes.diagnose(DIED + NOTICED, 1)
    assert "died without a word" in found.cause


ILLEGAL = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
MOON = "the moon is missing"


@pytest.mark.parametrize(
    "carrier",
    [
        "vllm-1  | ",
        "2026-07-25T07:53:08.217488644+08:00 stderr F ",
        "2026-03-11T17:57:32.372145579Z ",
        "Nov  7 08:00:01 node-3 vllm[123]: ",
        "[pod/vllm-7f9/server] ",
        "[rank0]: ",
        "\x1b[2K\x1b[31m",
    ],
)
def test_what_a_collector_of_logs_puts_before_a_line_is_no_part_of_it(carrier: str) -> None:
    for error, said in ((ILLEGAL, "illegal memory access"), (f"RuntimeError: {MOON}", MOON)):
        carried = "".join(f"{carrier}{line}\n" for line in (DIED + crashed(error) + NOTICED).splitlines())
        found = causes.diagnose(carried, 1)
        assert said in found.cause
        assert found.recognised == (error == ILLEGAL)


@pytest.mark.parametrize(
    "process",
    [
        "EngineCore_DP3 pid=3) (Worker_DP3_TP1",
        "Worker_PP0_TP1",
        "Worker_TP0_EP0",
        "VllmWorkerProcess",
        "RayWorkerWrapper",
    ],
)
def test_processes_of_every_parallelism(process: str) -> None:
    assert "illegal memory access" in causes.diagnose(crashed(ILLEGAL, process) + NOTICED, 1).cause


@pytest.mark.parametrize(
    "later",
    [
        "Exception ignored in: <function LLMEngine.__del__ at 0x7f>\nTraceback (most recent call last):\n"
        "  File \"/x.py\", line 1, in f\nAttributeError: 'LLMEngine' object has no attribute 'dp_group'\n",
        logged("Worker_TP1", "Traceback (most recent call last):", "    go()", "RuntimeError: cancelled"),
        logged(
            "Worker_TP1",
            "Traceback (most recent call last):",
            "    go()",
            "torch.distributed.DistNetworkError: Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
        ),
        "Traceback (most recent call last):\n    go()\nException: Server process exited with code -9. Check server logs.\n",
    ],
)
def test_what_follows_from_a_crash_is_not_its_cause(later: str) -> None:
    assert "illegal memory access" in causes.diagnose(DIED + crashed(ILLEGAL) + later, 1).cause


@pytest.mark.parametrize(
    "frame",
    ["    except torch.cuda.OutOfMemoryError:", '    raise ValueError("No available memory for the cache blocks")'],
)
def test_code_in_a_traceback_is_no_cause(frame: str) -> None:
    lines = ("Traceback (most recent call last):", '  File "/x.py", line 1, in f', frame, f"RuntimeError: {MOON}")
    found = causes.diagnose(logged("EngineCore", *lines) + NOTICED, 1)
    assert not found.recognised
    assert MOON in found.cause


def test_an_assertion_without_a_word_is_told_by_its_code() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/x.py", line 3, in weight_loader',
        "    assert loaded_weight.shape[output_dim] == self.org_vocab_size",
        "           ^^^^^^^^^^^^^^^^^^^",
        "AssertionError",
    )
    assert "shape mismatch" in causes.diagnose(logged("EngineCore", *lines) + NOTICED, 1).cause


def test_the_last_error_of_a_chain_wins_over_the_one_before_it() -> None:
    chain = logged("EngineCore", "", "During handling of the above exception, another exception occurred:", "")
    text = (
        crashed("ModuleNotFoundError: No module named 'flash_attn'")
        + chain
        + crashed("torch.OutOfMemoryError: CUDA out of memory")
    )
    assert "GPU ran out of memory" in causes.diagnose(text + NOTICED, 1).cause


EXPECTED = {
    "crash_then_enginedead": "data types",
    "prefixed_lines_without_level_0.24_to_0.30": "deepseek_v3",
    "tp_no_eagle3_interface": "EAGLE3",
}


def test_every_log_of_the_cases_has_a_true_cause() -> None:
    for log in sorted(shared("cases", "logs").glob("*.log")):
        found = causes.diagnose(log.read_text(errors="replace"), 1)
        assert "without a word" not in found.cause, log.name
        assert EXPECTED.get(log.stem, "") in found.cause, log.name
