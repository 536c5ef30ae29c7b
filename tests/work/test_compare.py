"""`draftsmith compare` alone: on commands, on running servers, on drafts' lengths; and what it does when something breaks."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from comparison_world import Bench, ask, kill
from loop_world import wait_for

from draftsmith.work.compare import trial as measure

pytestmark = [pytest.mark.story, pytest.mark.timed]

SPECULATING = """--speculative-config '{"method": "ngram", "num_speculative_tokens": 3}'"""
CACHED = "--enable-prefix-caching"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def bench(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, shared, monkeypatch)
    yield made
    assert made.left_behind() == [], "nothing outlives its comparison"


def test_two_whole_commands_are_started_compared_and_stopped(bench: Bench) -> None:
    """The server's words are the user's; host and port are ours, and so is the end."""
    lookup = f"lookup=FAKE_MARK=1 {bench.serve(CACHED, SPECULATING)}"
    found = bench.compare(f"plain={bench.serve(CACHED)}", lookup, more=("--standing", "plain", "--candidate", "lookup"))
    assert found["outcome"] in ("WIN", "LOSS", "INCONCLUSIVE")
    assert {pair["candidate"] for pair in found["pairs"]} == {"lookup"}
    assert bench.left_behind() == []
    plan = bench.plan()
    assert [arm["role"] for arm in plan["arms"]] == ["standing", "candidate"]
    assert plan["arms"][1]["env"] == {"FAKE_MARK": "1"}
    assert str(bench.target) not in json.dumps(plan), "paths are names in the evidence"
    assert plan["cache_regime"] == "warm", "these servers keep prefixes, by their own log"
    # Greedy decoding of one model: no answer may differ, and everything was compared.
    assert {(d["arm"], d["differing"]) for d in found["divergence"]} == {("plain (A/A)", 0), ("lookup", 0)}
    blocks = len({trial["block"] for trial in bench.lines()})
    assert all(d["compared"] == 6 * blocks for d in found["divergence"])
    assert "needs" in bench.said, "what it will take is said before it is measured"
    assert "A/A on 3 passes" in bench.said
    assert found["report"].endswith("report.html")
    assert (bench.out / "report.html").read_text().count("lookup") > 3


def test_decide_and_verify_repeat_it_offline_and_find_any_change(bench: Bench) -> None:
    found = bench.compare(f"a={bench.serve()}", "b=none", more=("--target", str(bench.target)))
    again = bench.call(["decide", str(bench.out / "samples.jsonl")])
    beside = {"report": None, "next_levers": None}  # a lever's cost is the time that this command took
    assert again | beside == found | beside
    recorded = (bench.out / "samples.jsonl").read_bytes()
    (bench.out / "samples.jsonl").write_bytes(recorded.replace(b'"wall_s":', b'"wall_s":1', 1))
    noticed = bench.call(["decide", str(bench.out)])["recorded_differs"]
    assert any(text.startswith("samples_sha256") for text in noticed)
    (bench.out / "samples.jsonl").write_bytes(recorded)
    [bundle] = (bench.out / "bundle").glob("*/*")
    assert bench.call(["verify", str(bundle)])["verdict_matches"]
    samples = bundle / "samples.jsonl"
    whole = samples.read_bytes()
    lines = whole.split(b"\n")[:-1]
    faster = lines[0].replace(b'"wall_s":', b'"wall_s":1', 1)
    for changed in ([faster, *lines[1:]], lines[1:], [*lines, lines[-1]]):
        samples.write_bytes(b"".join(line + b"\n" for line in changed))
        words = bench.call(["verify", str(bundle)], code=2)["error"]
        assert "samples.jsonl was altered" in words
        assert "verdict.json does not follow from the samples" in words
    samples.write_bytes(whole)
    assert bench.call(["verify", str(bundle)])["ok"]


def test_running_servers_are_compared_and_left_alone_at_tier_draft(bench: Bench) -> None:
    with bench.running() as (slow, one), bench.running(step_ms=2) as (fast, two):
        found = bench.compare(f"a={slow}", f"b={fast}/v1")
        assert found["tier"] == "draft"
        assert any("running already: it can be neither restarted" in reason for reason in found["tier_reasons"])
        assert (one.poll(), two.poll()) == (None, None)


def test_a_server_that_only_answers_is_compared_by_the_clients_clock(bench: Bench) -> None:
    with bench.running(no_metrics=True) as (a, _), bench.running(no_metrics=True) as (b, _):
        found = bench.compare(f"a={a}", f"b={b}")
    assert found["tier"] == "draft"
    assert all(trial["counters"]["requests"] == 0 for trial in bench.lines())
    guards = {g["name"]: g["passed"] for pair in found["pairs"] for g in pair["guards"]}
    assert guards["client_server"] is None, "what was not counted was not checked"


def test_recorded_arrivals_are_kept_and_a_faster_arm_is_not_blamed_for_its_short_queue(bench: Bench) -> None:
    found = bench.compare(
        "off=none", "ngram=ngram", more=("--target", str(bench.target), "--arrivals"), **{"compare.arrival_speed": 2.0}
    )
    [point] = bench.plan()["points"]
    assert point["arrivals_s"] == pytest.approx([0, 0.015, 0.03, 0.045, 0.06, 0.075])
    assert found["primary_point"] == "recorded"
    own = [trial for trial in bench.lines() if trial["traffic"] == "own"]
    assert all(trial["peak_concurrency"] > 1 for trial in own), "nobody waited for an answer before sending"
    [capacity] = [g for pair in found["pairs"] for g in pair["guards"] if g["name"] == "capacity"]
    assert "open loop: not judged" in capacity["sentence"]


def test_k_is_chosen_on_prompts_that_do_not_decide_at_every_load(bench: Bench) -> None:
    lengths = '{"method": "ngram", "num_speculative_tokens": [2, 4]}'
    bench.compare(
        "off=none", f"look={lengths}", more=("--target", str(bench.target), "--concurrency", "1", "--concurrency", "4")
    )
    tuned = json.loads((bench.out / "tuning.json").read_text())["by_point"]
    assert {point: set(row) for point, row in tuned.items()} == {
        "c1": {"look-k2", "look-k4"},
        "c4": {"look-k2", "look-k4"},
    }
    best = {min(row, key=lambda name: (row[name], name)) for row in tuned.values()}
    assert {arm["name"] for arm in bench.plan()["arms"]} == {"off"} | best
    tuning, own = (
        {json.loads(line)["prompt_id"] for line in (bench.out / f"prompts-{kind}.jsonl").read_text().splitlines()}
        for kind in ("tuning", "own")
    )
    assert len(tuning) == 2
    assert not tuning & own
    decided = {sample["prompt_id"] for trial in bench.lines() for sample in trial["samples"]}
    assert not decided & (tuning | own), "names in samples.jsonl are keyed"


def test_servers_that_do_not_fit_together_come_one_at_a_time_with_a_twin_of_the_baseline(bench: Bench) -> None:
    found = bench.compare("off=none", "ngram=ngram", more=("--target", str(bench.target)), **{"compare.resident": "no"})
    plan = bench.plan()
    assert (plan["resident"], plan["restarts"]) == (False, True)
    starts = {(t["block"], t["arm"], t["traffic"]): t["engine_start_id"] for t in bench.lines()}
    assert len(set(starts.values())) == len(starts), "A/A compares two starts"
    assert "note" not in found
    assert not any("set aside" in note for note in found["notes"])


def test_a_comparison_killed_in_the_middle_goes_on_with_its_finished_blocks(bench: Bench) -> None:
    arms = ("off=none", "ngram=ngram")
    settings = {"compare.thresholds.min_gain": 0.5, "compare.thresholds.max_blocks": 2, "target": str(bench.target)}
    bench.env["FAKE_VLLM"] = json.dumps({"step_ms": 8, "first_ms": 10})
    driver = bench.start(*arms, more=("--blocks", "2"), **settings)
    wait_for(lambda: len(bench.lines()) == 6 and "block 2" in bench.stage()[1], "the second block", 90)
    first = (bench.out / "samples.jsonl").read_bytes()
    driver.kill()
    driver.communicate()
    wait_for(lambda: bench.left_behind() == [], "its servers to end", 30)
    bench.compare(*arms, more=("--blocks", "2"), **settings)
    whole = (bench.out / "samples.jsonl").read_bytes()
    assert whole.startswith(first), "what was measured stays as it was"
    assert Counter(trial["block"] for trial in bench.lines()) == {0: 6, 1: 6}, "three arms, two rounds each"


def during(bench: Bench, note: str, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the comparison measures what `note` names."""

    def watch() -> None:
        wait_for(lambda: bench.stage()[0] == "measuring" and note in bench.stage()[1], note, 60)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_server_that_dies_once_is_started_again_and_its_block_measured_again(bench: Bench) -> None:
    bench.env["FAKE_VLLM"] = json.dumps({"step_ms": 10, "first_ms": 20})
    arms = ("off=none", "ngram=ngram")
    more = ("--target", str(bench.target))
    thread = during(bench, "off at c1, own", lambda: [kill(process) for process in bench.servers()])
    found = bench.compare(*arms, more=more)
    thread.join()
    assert found["pairs"][0]["blocks"] >= 1
    [died] = [trial for trial in bench.lines() if not trial["samples"]]
    assert died["invalid"].startswith("the server went away during the visit")
    assert any(died["trial_id"] in note for note in found["notes"]), "it is in the evidence"
    starts = {trial["engine_start_id"] for trial in bench.lines() if trial["samples"]}
    assert died["engine_start_id"] not in starts, "of the start that died nothing is averaged in"


def test_a_server_that_dies_again_ends_the_comparison_with_its_name(bench: Bench) -> None:
    bench.env["FAKE_VLLM"] = json.dumps({"step_ms": 10, "first_ms": 20})
    arms = ("off=none", "ngram=ngram")
    more = ("--target", str(bench.target))
    over = threading.Event()

    def killer() -> None:
        while not over.wait(0.05):
            if bench.stage()[0] == "measuring":
                for process in bench.servers():
                    kill(process)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        value = bench.compare(*arms, more=more, code=5)
    finally:
        over.set()
        thread.join()
    assert value["kind"] == "EngineLostError"
    assert not [trial for trial in bench.lines() if trial["samples"]], "no half block is kept"
    bench.env["FAKE_VLLM"] = json.dumps({"step_ms": 2, "first_ms": 3})
    assert bench.compare(*arms, more=more)["pairs"][0]["blocks"] >= 1


def test_foreign_traffic_on_a_server_sets_the_trial_aside_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else asks while an arm is measured: its counters say more than was sent."""
    real = measure.replay
    with bench.running() as (a, _), bench.running() as (b, _):

        def disturbed(requests: Any, target: Any, *rest: Any) -> Any:
            if target.endpoint == b:
                ask(b, 1)
            return real(requests, target, *rest)

        monkeypatch.setattr(measure, "replay", disturbed)
        found = bench.compare(f"a={a}", f"b={b}")
    assert [note for note in found["notes"] if "foreign traffic" in note]
    assert found["pairs"][0]["blocks"] == 0
    assert found["outcome"] == "INCONCLUSIVE"


def test_a_running_server_that_is_replaced_meanwhile_is_not_measured_on(bench: Bench) -> None:
    with ExitStack() as stack:
        b, process = stack.enter_context(bench.running())

        def replace() -> None:
            process.kill()
            process.wait()
            stack.enter_context(bench.running(port=int(b.rsplit(":", 1)[1])))

        # The baseline waits with its answers until its neighbour is another server.
        pause = bench.base / "pause"
        a2, _ = stack.enter_context(bench.running(pause_file=str(pause)))

        def swap() -> None:
            pause.touch()
            replace()
            pause.unlink()

        thread = during(bench, "a at c1, own", swap)
        value = bench.compare(f"a={a2}", f"b={b}", code=5)
        thread.join()
    assert value["kind"] == "EngineLostError"
    assert "was replaced while the comparison ran" in value["error"]
    assert not [trial for trial in bench.lines() if trial["samples"]]


LENGTHS = '{"method": "ngram", "num_speculative_tokens": [2, 4]}'

REFUSED = {
    "one arm": (["a=none"], "two arms", 2),
    "a name twice": (["a=none", "a=ngram"], "different names", 2),
    "no such program": (["a=none", "b=/nowhere/serve --x"], "no program", 2),
    "a port of its own": (["a=none", "b=vllm serve m --port 8000"], "a free port of its own", 2),
    "a container": (["a=none", "b=docker run vllm"], "not a child of this process", 2),
    "nonsense": (["a=none", "b=what"], "is none of", 2),
    "suffix without its package": (["a=none", "b=suffix"], "arctic-inference", 3),
    "an unknown method": (["a=none", 'b={"method": "magic", "num_speculative_tokens": 2}'], "not known to vLLM", 3),
    "a flag twice": (["a=none", "b=ngram"], "decides itself", 2),
    "a name that a list of lengths gives": (["a=none", "b-k2=ngram", f"b={LENGTHS}"], "names must be unique", 2),
    "a name of a twin": (["a=none", "a#b=ngram"], "without '#'", 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_arm_that_cannot_be_compared_is_refused_before_anything_starts(case: str, bench: Bench) -> None:
    arms, words, code = REFUSED[case]
    more = ("--flags", "b=--port 99") if case == "a flag twice" else ()
    value = bench.compare(*arms, more=("--target", str(bench.target), *more), code=code)
    assert words in value["error"]
    assert value["next_step"]
    assert not (bench.out / "servers").exists()


def test_a_folder_holds_one_comparison(bench: Bench) -> None:
    with bench.running() as (a, _), bench.running() as (b, _):
        bench.compare(f"a={a}", f"b={b}")
        value = bench.compare(f"a={b}", f"b={a}", code=2)
    assert "holds another comparison (different: arms)" in value["error"]


def test_what_is_told_is_of_the_arm_on_trial_and_every_block_asked_for_is_measured(bench: Bench) -> None:
    """A reference stands before it. What looks up instead of drafting may find nothing: that is no fault of wiring."""
    bench.env["FAKE_VLLM"] = json.dumps({"step_ms": 4, "first_ms": 6, "acceptance": {"ngram": 0.02}})
    found = bench.compare(
        "now=ngram", "off=none", 'new={"method": "ngram", "num_speculative_tokens": 5}',
        more=("--target", str(bench.target), "--candidate", "new", "--blocks", "2"),
    )  # fmt: skip
    assert {trial["block"] for trial in bench.lines()} == {0, 1}, "although the preset limit is lower"
    speedups = {pair["candidate"]: pair["speedup"] for pair in found["pairs"]}
    assert set(speedups) == {"off", "new"}
    assert bench.figures["speedup"] == speedups[found["winner"] or "new"]


def test_a_comparison_is_not_gone_on_with_under_other_settings(bench: Bench) -> None:
    """The engine's flags are in no arm, and yet they decide what was measured."""
    with bench.running() as (a, _), bench.running() as (b, _):
        bench.compare(f"a={a}", f"b={b}")
        before = bench.lines()
        for changed in ({"engine.flags": ["--block-size", "32"]}, {"compare.thresholds.min_gain": 0.2}):
            value = bench.compare(f"a={a}", f"b={b}", code=2, **changed)
            assert "begun with other settings" in value["error"]
            assert value["next_step"]
        own = bench.out / "prompts-own.jsonl"
        own.write_bytes(own.read_bytes().replace(b'"max_tokens":8', b'"max_tokens":9', 1))
        assert "begun with other prompts" in bench.compare(f"a={a}", f"b={b}", code=2)["error"]
    assert bench.lines() == before
