"""Counters of the GPU beside trials: which readings count, and when they raise the rigor. From text, and from a real Prometheus."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from bundle_world import parts

from draftsmith.client.dcgm import ask_prometheus, parse
from draftsmith.contract.counters import GpuSample, rigor_level
from draftsmith.contract.errors import BackendError, InputError
from draftsmith.contract.measure import Trial
from draftsmith.report.counters import correlate

# As DCGM exporter 4.2 prints it, one GPU of two left out.
SCRAPE = """# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-3c",pci_bus_id="00000000:18:00.0",device="nvidia0",modelName="NVIDIA H200",Hostname="node-a"} 1980
# HELP DCGM_FI_PROF_PIPE_TENSOR_ACTIVE Ratio of cycles the tensor (HMMA) pipe is active.
# TYPE DCGM_FI_PROF_PIPE_TENSOR_ACTIVE gauge
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu="0",UUID="GPU-3c",pci_bus_id="00000000:18:00.0",device="nvidia0",modelName="NVIDIA H200",Hostname="node-a"} 0.071043
# HELP DCGM_FI_PROF_DRAM_ACTIVE Ratio of cycles the device memory interface is active sending or receiving data.
# TYPE DCGM_FI_PROF_DRAM_ACTIVE gauge
DCGM_FI_PROF_DRAM_ACTIVE{gpu="0",UUID="GPU-3c",pci_bus_id="00000000:18:00.0",device="nvidia0",modelName="NVIDIA H200",Hostname="node-a"} 0.613210
"""


def trials() -> list[Trial]:
    """One after the other, ten seconds each, own traffic only."""
    own = [trial for trial in parts(2).trials if trial.traffic == "own"]
    return [
        trial.model_copy(update={"started_unix_s": 1.0e9 + 10 * n, "wall_s": 9.0, "node": "node-a"})
        for n, trial in enumerate(own)
    ]


def readings(every: float, value: float = 0.5, host: str = "node-a", upto: float = 40.0) -> list[GpuSample]:
    steps = int(upto / every)
    return [GpuSample(1.0e9 + every * n, host, "0", "dram_active", value) for n in range(steps)]


def test_a_scrape_is_read_with_the_time_before_it_or_its_own() -> None:
    found = parse(f"# at 1700000000.5\n{SCRAPE}# at 1700000001.5\n{SCRAPE}")
    assert {one.at_unix_s for one in found} == {1700000000.5, 1700000001.5}
    assert {(one.counter, one.value) for one in found} == {("tensor_active", 0.071043), ("dram_active", 0.613210)}
    stamped = 'DCGM_FI_PROF_DRAM_ACTIVE{gpu="0",Hostname="n"} 0.25 1700000002500\n'
    assert parse(stamped) == [GpuSample(1700000002.5, "n", "0", "dram_active", 0.25)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SCRAPE, "say no time"),
        ("# at 1700000000\nup 1\n", "no profiling counter"),
        ("", "no profiling counter"),
        ("# at 1700000000\n{{{\n", "no text of a DCGM exporter"),
    ],
)
def test_text_that_tells_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse(text)


def test_only_readings_inside_one_trial_count() -> None:
    """Arms alternate: a reading averaged over the change from one to the next tells of neither."""
    by_arm = {"standing": 0.4, "tailored": 0.8}
    own, seen = trials(), []
    for trial in own:
        for second in range(10):
            at = trial.started_unix_s + second
            before = second == 0  # averaged over the second before: the other arm's
            seen.append(GpuSample(at, "node-a", "0", "dram_active", 0.01 if before else by_arm[trial.arm]))
    found = correlate(own, seen, "DCGM text")
    assert {row.arm: row.dram_active for row in found.rows} == pytest.approx(by_arm)
    assert found.complete
    assert rigor_level(own, found) == "L3"


def test_readings_that_come_too_seldom_raise_nothing_and_say_so() -> None:
    found = correlate(trials(), readings(8.0), "DCGM text")
    assert not found.complete
    assert "let the exporter collect every second" in found.lacking[-1]
    assert rigor_level(trials(), found) == "L1"


def test_readings_of_another_machine_or_time_are_refused() -> None:
    with pytest.raises(InputError, match="are of node-b, the trials ran on node-a"):
        correlate(trials(), readings(1.0, host="node-b"), "DCGM text")
    assert correlate(trials(), readings(1.0, host="node-b"), "DCGM text", host="node-b").complete
    with pytest.raises(InputError, match="no reading lies in the time"):
        correlate(trials(), [one._replace(at_unix_s=1.0) for one in readings(1.0)], "DCGM text")


@pytest.mark.foreign
def test_a_real_prometheus_gives_what_it_scraped(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: .ci/watching.sh installs it where there is root and apt-get")

    class Exporter(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SCRAPE.encode())

        def log_message(self, *_: object) -> None:
            pass

    exporter = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    setting = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "scrape_configs": [
            {"job_name": "dcgm", "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_port}"]}]}
        ],
    }
    (tmp_path / "p.yml").write_text(json.dumps(setting))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter) as free:
        port = free.server_port
    words = ["prometheus", f"--config.file={tmp_path}/p.yml", f"--storage.tsdb.path={tmp_path}/data"]
    began = time.time()
    server = subprocess.Popen(
        [*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        found: list[GpuSample] = []
        for _ in range(150):
            try:
                urllib.request.urlopen(f"{url}/-/ready", timeout=2).read()
                found = ask_prometheus(url, began, time.time(), "node-a")
            except (OSError, InputError, BackendError):
                pass
            if len({one.at_unix_s for one in found}) >= 5:
                break
            time.sleep(0.2)
        assert {(one.counter, one.value) for one in found} == {("tensor_active", 0.071043), ("dram_active", 0.61321)}
        assert {(one.host, one.gpu) for one in found} == {("node-a", "GPU-3c")}
        assert len({one.at_unix_s for one in found}) >= 5
        with pytest.raises(InputError, match="has no DCGM_FI_PROF"):
            ask_prometheus(url, began, time.time(), 'node"b')
    finally:
        server.terminate()
        server.wait(20)
        exporter.shutdown()
        exporter.server_close()
    with pytest.raises(BackendError, match="could not be asked"):
        ask_prometheus(url, began, time.time())
