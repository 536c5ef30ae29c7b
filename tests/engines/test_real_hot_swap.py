"""A draft's weights replaced in a real vLLM while it answers: proved by its live layers, refused whole, nothing cut."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from draftsmith.api.precision import precision_flags
from draftsmith.contract.config import Config
from draftsmith.contract.errors import EngineError
from draftsmith.engines.base import Server, ServerSpec
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.engines.vllm.hot_swap import prepared, swap
from draftsmith.kit import processes
from draftsmith.kit.files import sha256_file
from draftsmith.serving.managed.hot_swap import swappable
from draftsmith.trainers.layers import default_layers
from draftsmith.trainers.untrained import write_untrained
from draftsmith.wiring import target as read_target

FLAGS = precision_flags()
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The target, and two drafts of one shape."""
    if "DRAFTSMITH_TARGET" not in os.environ:
        pytest.skip("DRAFTSMITH_TARGET is not set")
    target = Path(os.environ["DRAFTSMITH_TARGET"])
    facts = read_target(Config(), target)
    folder = tmp_path_factory.mktemp("drafts")
    layers = default_layers(facts.num_layers)
    one, two = (write_untrained(facts, folder / f"d{seed}", layers, 4096, seed) for seed in (1, 2))
    return target, one, two


@pytest.fixture(scope="module")
def server(drafts: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    target, one, _ = drafts
    folder = tmp_path_factory.mktemp("served")
    engine = VllmEngine(folder / "processes")
    config = {"method": "eagle3", "model": str(one), "num_speculative_tokens": 2}
    spec = ServerSpec(
        model=str(target), flags=FLAGS, spec_config=config, cpu_kv_gib=1, max_model_len=512, max_num_seqs=8,
        prefix_caching=None, enforce_eager=True,
    )  # fmt: skip
    started = engine.start(prepared(spec, folder / "plugin", one.parent), folder / "logs")
    try:
        engine.wait_ready(started, 800)
        yield started
    finally:
        for path, record in processes.records(engine.registry):
            processes.stop(processes.Process(record, path))


def ask(url: str, number: int) -> str:
    body = {"model": "target", "prompt": f"{number} and the sea is", "max_tokens": 6, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=600, trust_env=False)
    return str(answer.json()["choices"][0]["text"]) if answer.status_code == 200 else f"status {answer.status_code}"


def test_a_draft_is_swapped_under_load_there_and_back_and_bad_ones_are_refused(
    server: Server, drafts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, one, two = drafts
    wanted = [ask(server.url, n) for n in range(2)]
    first = httpx.get(f"{server.url}/v1/draft", timeout=600, trust_env=False).json()
    assert first["file_sha256"] == sha256_file(one / "model.safetensors")
    if FLAGS and first["live_sha256"] != first["expected_live_sha256"]:
        pytest.skip("this processor's float32 kernels do not give weights back to the bit: a swap is refused there")
    assert first["live_sha256"] == first["expected_live_sha256"]
    answers: list[tuple[int, str]] = []
    ended = threading.Event()

    def client(number: int) -> None:
        while not ended.is_set():
            answers.append((number, ask(server.url, number)))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    reports = [swap(server.url, draft) for draft in (two, one, two, one)]
    ended.set()
    for thread in threads:
        thread.join()
    assert [report["swaps"] for report in reports] == [1, 2, 3, 4]
    assert (
        reports[0]["live_sha256"] == reports[2]["live_sha256"] != reports[1]["live_sha256"] == reports[3]["live_sha256"]
    )
    assert reports[1]["live_sha256"] == first["live_sha256"], "there and back is where it began"
    assert len(answers) >= 2
    assert not [text for _, text in answers if text.startswith("status")]
    assert [ask(server.url, n) for n in range(2)] == wanted, "a draft never changes what the target says"

    bad = {
        "truncated": lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100),
        "config.json differs": lambda folder: (folder / "config.json").write_text("{}"),
    }
    for name, spoil in bad.items():
        folder = one.parent / name.replace(" ", "-")
        shutil.copytree(two, folder)
        spoil(folder)
        with pytest.raises(EngineError, match="refused the swap"):
            swap(server.url, folder)
    outside = shutil.copytree(two, tmp_path / "outside")
    with pytest.raises(EngineError, match="configured folder"):
        swap(server.url, outside)
    after = httpx.get(f"{server.url}/v1/draft", timeout=600, trust_env=False).json()
    assert after["live_sha256"] == first["live_sha256"]
    assert (after["swaps"], after["tainted"]) == (4, "")


def test_what_can_be_swapped_is_told_from_the_folders(drafts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, one, two = drafts
    config = {"method": "eagle3", "num_speculative_tokens": 2}
    assert swappable({**config, "model": str(one)}, {**config, "model": str(two)}) is None
    other_k = {"method": "eagle3", "num_speculative_tokens": 3, "model": str(two)}
    assert "more than their draft" in str(swappable({**config, "model": str(one)}, other_k))
    assert "cannot be read" in str(swappable({**config, "model": str(one)}, {**config, "model": str(tmp_path)}))
