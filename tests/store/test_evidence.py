"""Bundles are handed to people who trust nothing: what they find, and what they never find."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_world import parts, plan, trial

from draftsmith.contract.errors import EvidenceError
from draftsmith.kit.files import sha256_file
from draftsmith.store.evidence import CommandRecord, require_portable, verify_bundle, write_bundle
from draftsmith.store.scrub import from_names, to_names
from draftsmith.work.step_commands import job_commands, started_commands


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "evidence", parts())


def reseal(bundle: Path) -> None:
    """What a forger does: rewrite the manifest to fit the altered files."""
    files = sorted(p for p in bundle.rglob("*") if p.is_file() and p.name != "MANIFEST.json")
    listed = {p.relative_to(bundle).as_posix(): {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in files}
    (bundle / "MANIFEST.json").write_text(json.dumps({"schema": "draftsmith_bundle_v1", "files": listed}))


def edit(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_bundle_verifies_after_a_journey(bundle: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(bundle, tmp_path / "another" / "machine")
    report = verify_bundle(elsewhere)
    assert report.ok
    assert report.verdict_matches is True
    assert report.sentences() == []
    assert report.stored is not None
    assert report.stored.outcome == "WIN"
    names = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert {"SOURCE.md", "summary.md", "plan.json", "samples.jsonl", "facts.json", "verdict.json"} <= names
    assert {f"commands/01-compare.{end}" for end in ("cmd", "stdout", "exit")} <= names
    assert "commands/01-compare.stderr" not in names, "it printed nothing there"
    assert (bundle / "commands/01-compare.exit").read_text() == "0\n"
    assert report.files == len(names) - 1


def test_only_the_owner_may_look(bundle: Path) -> None:
    for path in (bundle.parent, bundle, bundle / "commands"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in bundle.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_altered_missing_and_added_files_are_all_named(bundle: Path) -> None:
    with (bundle / "summary.md").open("a") as out:
        out.write("and it is even faster than that\n")
    (bundle / "training.jsonl").unlink()
    (bundle / "commands" / "99-extra.stdout").write_text("hello")
    (bundle / "link").symlink_to("/etc/hostname")
    report = verify_bundle(bundle)
    assert report.altered == ("summary.md",)
    assert report.missing == ("training.jsonl",)
    assert report.added == ("commands/99-extra.stdout", "link")
    assert not report.ok
    assert report.verdict_matches is True
    assert "training.jsonl is missing" in report.sentences()


def complaint(bundle: Path) -> str:
    """What a check says, whether it could read the bundle or not; empty if all is well."""
    try:
        return "; ".join(verify_bundle(bundle).sentences())
    except EvidenceError as error:
        return error.message


@pytest.mark.parametrize("name", ["plan.json", "samples.jsonl", "facts.json", "verdict.json", "SOURCE.md"])
def test_one_flipped_byte_anywhere_is_found(bundle: Path, name: str) -> None:
    raw = bytearray((bundle / name).read_bytes())
    place = len(raw) // 2
    raw[place] ^= 0x01
    (bundle / name).write_bytes(bytes(raw))
    assert name in complaint(bundle)


def test_a_file_swapped_for_a_link_to_the_same_bytes_is_found(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "summary-elsewhere.md"
    shutil.move(bundle / "summary.md", outside)
    (bundle / "summary.md").symlink_to(outside)
    assert verify_bundle(bundle).altered == ("summary.md",)


def test_a_forged_verdict_does_not_follow_from_the_samples(bundle: Path) -> None:
    edit(bundle / "verdict.json", lambda d: d["pairs"][0]["speedup"].update(value=2.5))
    edit(bundle / "verdict.json", lambda d: d.update(reason="tailored is 2.500x as fast"))
    reseal(bundle)
    report = verify_bundle(bundle)
    assert report.intact
    assert report.verdict_matches is False
    assert not report.ok
    assert any(text.startswith("pairs") for text in report.differences)
    assert any(text.startswith("reason") for text in report.differences)


def test_forged_samples_no_longer_give_the_verdict(bundle: Path) -> None:
    lines = (bundle / "samples.jsonl").read_bytes().split(b"\n")
    first = json.loads(lines[0])
    first["samples"][0]["latency_s"] *= 0.999
    lines[0] = json.dumps(first).encode()
    (bundle / "samples.jsonl").write_bytes(b"\n".join(lines))
    reseal(bundle)
    report = verify_bundle(bundle)
    assert report.verdict_matches is False
    assert any(text.startswith("samples_sha256") for text in report.differences)


def test_a_dropped_engine_start_changes_the_tier_and_is_found(bundle: Path) -> None:
    edit(bundle / "facts.json", lambda d: d.pop())
    reseal(bundle)
    report = verify_bundle(bundle)
    assert report.stored is not None
    assert report.recomputed is not None
    assert (report.stored.tier, report.recomputed.tier) == ("verdict", "draft")
    assert "tier is 'verdict', recomputed 'draft'" in report.differences


def test_a_missing_plan_leaves_the_verdict_unproven(bundle: Path) -> None:
    (bundle / "plan.json").unlink()
    report = verify_bundle(bundle)
    assert report.missing == ("plan.json",)
    assert report.verdict_matches is False
    assert not report.ok


def cut_last_line(bundle: Path) -> None:
    raw = (bundle / "samples.jsonl").read_bytes()
    (bundle / "samples.jsonl").write_bytes(raw[:-20])


def tear_first_line(bundle: Path) -> None:
    raw = (bundle / "samples.jsonl").read_bytes()
    (bundle / "samples.jsonl").write_bytes(raw[:100] + b"\n" + raw[100:])


def other_schema(bundle: Path) -> None:
    edit(bundle / "plan.json", lambda d: d.update(schema="draftsmith_comparison_v9"))


def unknown_key(bundle: Path) -> None:
    edit(bundle / "verdict.json", lambda d: d.update(signed_by="me"))


def number_as_text(bundle: Path) -> None:
    edit(bundle / "facts.json", lambda d: d[0][1].update(kv_tokens="10000"))


def other_plan(bundle: Path) -> None:
    edit(bundle / "plan.json", lambda d: d.update(seed=7))


def verdict_of_another_plan(bundle: Path) -> None:
    edit(bundle / "verdict.json", lambda d: d.update(plan_sha256="f" * 64))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_last_line, "samples.jsonl line 16 is torn"),
        (tear_first_line, "samples.jsonl line 1 is torn"),
        (other_schema, "plan.json: schema does not fit"),
        (unknown_key, "verdict.json: signed_by does not fit"),
        (number_as_text, "facts.json entry 0: kv_tokens does not fit"),
        (other_plan, "samples.jsonl line 1 was measured under another plan"),
        (verdict_of_another_plan, "verdict.json was decided under another plan"),
    ],
)
@pytest.mark.parametrize("resealed", [True, False])
def test_what_cannot_be_read_is_an_error_that_names_the_file(
    bundle: Path, damage: Any, words: str, resealed: bool
) -> None:
    damage(bundle)
    if resealed:
        reseal(bundle)
    with pytest.raises(EvidenceError, match=words) as caught:
        verify_bundle(bundle)
    assert caught.value.next_step
    assert ("altered" in caught.value.message) is not resealed


def test_the_folder_of_a_run_says_where_its_bundle_lies(tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "run" / "bundle", parts())
    with pytest.raises(EvidenceError, match="holds one") as caught:
        verify_bundle(tmp_path / "run")
    assert caught.value.next_step == f"draftsmith verify {made}"


def test_an_unfinished_bundle_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "MANIFEST.json").unlink()
    with pytest.raises(EvidenceError, match="never finished"):
        verify_bundle(bundle)
    with pytest.raises(EvidenceError, match="is no folder"):
        verify_bundle(tmp_path / "nowhere")
    assert verify_bundle(write_bundle(tmp_path / "evidence", parts())).ok


def test_a_manifest_that_points_outside_is_refused(bundle: Path) -> None:
    edit(bundle / "MANIFEST.json", lambda d: d["files"].update({"../../x": {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(EvidenceError, match="an entry that no bundle has"):
        verify_bundle(bundle)


def test_a_crash_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("draftsmith.store.evidence.write_manifest", full)
        with pytest.raises(OSError, match="No space"):
            write_bundle(tmp_path, parts())
    assert list((tmp_path / "smollm2").iterdir()) == []
    assert verify_bundle(write_bundle(tmp_path, parts())).ok


def test_writing_the_same_evidence_again_keeps_the_first(bundle: Path, tmp_path: Path) -> None:
    before = (bundle / "MANIFEST.json").read_bytes()
    again = write_bundle(tmp_path / "evidence", parts(source={"written": "a second later"}))
    assert again == bundle
    assert (bundle / "MANIFEST.json").read_bytes() == before


def test_other_evidence_never_replaces_a_finished_bundle(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="already holds other evidence"):
        write_bundle(tmp_path / "evidence", parts(blocks=5))
    assert verify_bundle(bundle).ok


def test_a_bundle_is_replaced_only_by_one_that_was_checked(bundle: Path, tmp_path: Path) -> None:
    before = tree(bundle)

    def refuse(new: Path) -> None:
        assert verify_bundle(new).ok
        assert tree(bundle) == before, "the earlier one is untouched while the new one is checked"
        raise EvidenceError("not good enough")

    with pytest.raises(EvidenceError, match="not good enough"):
        write_bundle(tmp_path / "evidence", parts(blocks=5), replace_after=refuse)
    assert tree(bundle) == before
    assert write_bundle(tmp_path / "evidence", parts(blocks=5), replace_after=lambda _: None) == bundle
    assert verify_bundle(bundle).ok
    assert tree(bundle) != before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name], "nothing else stays"


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.open"])
def test_a_disk_that_fills_at_any_moment_leaves_the_earlier_bundle(
    call: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = tree(bundle), getattr(os, call.removeprefix("os."))
    for point in itertools.count(1):
        calls = itertools.count(1)

        def full(*arguments: Any, point: int = point, calls: Any = calls, **keywords: Any) -> Any:
            if next(calls) == point:
                raise OSError(28, "No space left on device")
            return real(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(call, full)
            try:
                write_bundle(tmp_path / "evidence", parts(blocks=5), replace_after=lambda _: None)
            except OSError:
                assert tree(bundle) == before
                continue
        break
    assert point > 5
    assert tree(bundle) != before
    assert verify_bundle(bundle).ok


def test_a_crash_between_two_renames_is_undone(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that cannot exchange two folders."""
    before, rename = tree(bundle), os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(target) == bundle:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", lambda *_, **__: object())
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_bundle(tmp_path / "evidence", parts(blocks=5), replace_after=lambda _: None)
    assert not bundle.exists()
    with pytest.raises(EvidenceError):
        write_bundle(tmp_path / "evidence", parts(blocks=5))
    assert tree(bundle) == before


def test_two_commands_that_write_one_bundle_at_once_do_it_one_after_the_other(bundle: Path, tmp_path: Path) -> None:
    seen: list[bool] = []

    def meanwhile(_: Path) -> None:
        other = threading.Thread(
            target=lambda: write_bundle(tmp_path / "evidence", parts(), replace_after=lambda _: None)
        )
        other.start()
        waiting.append(other)
        seen.append(verify_bundle(bundle).ok)

    waiting: list[threading.Thread] = []
    write_bundle(tmp_path / "evidence", parts(blocks=5), replace_after=meanwhile)
    waiting[0].join(60)
    assert seen == [True]
    assert verify_bundle(bundle).ok


def test_engines_plans_and_output_are_in_it_without_secrets_and_paths(tmp_path: Path) -> None:
    workspace = tmp_path / "work space"
    run = workspace / "runs" / "r-1"
    job = run / "phases" / "compare"
    job.mkdir(parents=True)
    plan = {"out": str(job / "samples"), "config": {"engine": {"env": {"HF_TOKEN": "hf_abcdefghijklmnop"}}}}
    (job / "plan.json").write_text(json.dumps(plan))
    (job / "stdout.log").write_text("measured c1\n")
    (job / "stderr.log").write_text("")
    engine = [
        "python",
        "-m",
        "vllm.entrypoints",
        "--model",
        str(run / "draft"),
        "--api-key",
        "sk-live-1234",
        "--port",
        "1",
    ]
    lines = [{"label": "vllm target :1", "argv": engine, "log": str(job / "servers" / "a.log")}, ["torn"]]
    registry = run / "processes"
    registry.mkdir()
    (registry / "commands.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"label"')
    commands = [*job_commands("compare", job, logs=True, exit_code=0), *started_commands(registry, run / "phases")]
    bundle = write_bundle(tmp_path / "evidence", parts(commands=commands, names={"{workspace}": str(workspace)}))
    found = {path.name: path.read_text() for path in (bundle / "commands").iterdir()}
    assert sorted(found) == [
        "01-compare.cmd", "01-compare.exit", "01-compare.plan.json", "01-compare.stdout", "02-compare-vllm-target-1.cmd",
    ]  # fmt: skip
    assert found["01-compare.stdout"] == "measured c1\n"
    assert "vllm.entrypoints" in found["02-compare-vllm-target-1.cmd"]
    assert "--port 1" in found["02-compare-vllm-target-1.cmd"]
    everything = "".join(found.values())
    assert "sk-live-1234" not in everything
    assert "hf_abc" not in everything
    assert str(tmp_path) not in everything
    assert "{workspace}/runs/r-1/draft" in everything


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_without_a_comparison_leaves_evidence_too(tmp_path: Path) -> None:
    early = replace(parts(), plan=None, trials=(), facts=(), decision=None)
    report = verify_bundle(write_bundle(tmp_path, early))
    assert report.ok
    assert report.verdict_matches is None


def test_parts_that_contradict_each_other_are_not_written(tmp_path: Path) -> None:
    good = parts()
    stray = trial(plan(seed=9), "tailored", 7, 0.03)
    with pytest.raises(EvidenceError, match="under another plan"):
        write_bundle(tmp_path, replace(good, trials=[*good.trials, stray]))
    with pytest.raises(EvidenceError, match="another set of trials"):
        write_bundle(tmp_path, replace(good, trials=list(good.trials)[:-1]))
    with pytest.raises(EvidenceError, match="no plan"):
        write_bundle(tmp_path, replace(good, plan=None))
    with pytest.raises(EvidenceError, match="cannot name a folder"):
        write_bundle(tmp_path, replace(good, run_id="../escape"))


SECRETS = {
    "flag": "k3y-of-the-flag",
    "second": "second-k3y-of-the-flag",
    "equals": "k3y-after-equals",
    "hub": "hf_abcdefghijklmnopqrstuvwx",
    "env": "value-of-MY_TOKEN",
    "environ": "only-in-the-environment-42",
    "bearer": "abc.def-ghi_jkl",
    "url": "hunter2pass",
    "dict": "k3y-in-a-dict",
    "list": "k3y-in-a-list",
    "given": "told-to-the-writer",
    "prompt": "please summarise my medical record",
    "pem": "MIIEvQIBADANBgkq",
    "quoted": "k3y-in-quotes",
}


def planted(tmp_path: Path) -> list[CommandRecord]:
    log = tmp_path / "engine.log"
    log.write_text(
        f"non-default args: {{'api_key': ['{SECRETS['list']}'], 'model': '/home/maria/models/m', 'port': 8000}}\n"
        f"env HF_TOKEN={SECRETS['hub']} MY_TOKEN={SECRETS['env']}\n"
        f"headers: Authorization: Bearer {SECRETS['bearer']}\n"
        f"proxy http://user:{SECRETS['url']}@proxy.example:3128/\n"
        f'{{"api_key": "{SECRETS["dict"]}", "max_tokens": 128}}\n'
        f"Received request cmpl-1: prompt: '{SECRETS['prompt']}', params: SamplingParams(n=1)\n"
        f"restarting with {SECRETS['environ']}\n"
        f'argv: ["--api-key", "{SECRETS["quoted"]}", "--max-num-batched-tokens", "2048"]\n'
        f"-----BEGIN PRIVATE KEY-----\n{SECRETS['pem']}\n-----END PRIVATE KEY-----\n"
        f"after the key, {SECRETS['given']}; eos_token: '<|im_end|>', Maximum concurrency for 2,048 tokens: 12x\n"
    )
    return [
        CommandRecord(
            step="serve",
            argv=(
                "vllm",
                "serve",
                "--api-key",
                SECRETS["flag"],
                SECRETS["second"],
                "--max-num-batched-tokens",
                "2048",
                f"--hf-token={SECRETS['equals']}",
                "--model",
                f"{tmp_path}/workspace/runs/0001/draft",
            ),
            stdout=log,
            stderr=f"loading /home/maria/models/m\n{SECRETS['given']}\n",
            exit_code=1,
            env={"OPENAI_API_KEY": SECRETS["env"], "OMP_NUM_THREADS": "2"},
        )
    ]


def test_no_planted_secret_reaches_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", SECRETS["environ"])
    given = parts(
        commands=planted(tmp_path),
        source={"target": "/home/maria/models/m", "key": f"--api-key {SECRETS['flag']}"},
        summary_md=f"Served with HF_TOKEN={SECRETS['hub']} from {tmp_path}/workspace\n",
        report_html=f"<p>{SECRETS['given']} in /Users/maria/x</p>",
        training=[{"verifier": {"path": "/home/maria/models/m", "hf_token": SECRETS["env"]}, "train": {"loss": 1.5}}],
        names={"{workspace}": f"{tmp_path}/workspace"},
        secrets=(SECRETS["given"],),
    )
    bundle = write_bundle(tmp_path / "evidence", given)
    stored = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    for path, raw in stored.items():
        for kind, secret in SECRETS.items():
            assert secret.encode() not in raw, f"{kind} in {path.name}"
        for trace in (b"maria", os.fsencode(tmp_path)):
            assert trace not in raw, path.name
    log = (bundle / "commands/01-serve.stdout").read_text()
    assert "after the key" in log
    assert "2,048 tokens: 12x" in log
    assert "'<|im_end|>'" in log
    assert "'port': 8000" in log
    assert '"max_tokens": 128' in log
    command = (bundle / "commands/01-serve.cmd").read_text()
    assert "--max-num-batched-tokens 2048" in command
    assert "{workspace}/runs/0001/draft" in command
    assert "OMP_NUM_THREADS=2" in command
    assert verify_bundle(bundle).ok


def test_the_plan_is_refused_rather_than_rewritten(tmp_path: Path) -> None:
    arm = plan().arms[1]
    for spec, where in (
        ({"method": "eagle3", "model": "/home/maria/draft"}, "arms.1.spec_config.model"),
        ({"method": "eagle3", "hf_token": "abc"}, "arms.1.spec_config.hf_token"),
    ):
        hot = plan(arms=(plan().arms[0], arm.model_copy(update={"spec_config": spec})))
        with pytest.raises(EvidenceError, match=where) as caught:
            require_portable(hot)
        assert "maria" not in str(caught.value)
    keyed = plan(arms=(plan().arms[0], arm.model_copy(update={"command": ("vllm", "--api-key", "zzz")})))
    with pytest.raises(EvidenceError, match=r"arms\.1\.command"):
        write_bundle(tmp_path, parts(plan=keyed, trials=(), facts=(), decision=None))
    require_portable(plan())


def test_a_trial_whose_error_quotes_a_key_is_refused(tmp_path: Path) -> None:
    leaky = trial(plan(), "tailored", 0, 0.03)
    sample = leaky.samples[0].model_copy(update={"error": "401: Authorization: Bearer abcdefghijkl"})
    leaky = leaky.model_copy(update={"samples": (sample, *leaky.samples[1:])})
    with pytest.raises(EvidenceError, match=r"samples\.0\.error") as caught:
        write_bundle(tmp_path, parts(trials=[leaky], facts=(), decision=None))
    assert "abcdefghijkl" not in str(caught.value)


def test_paths_become_names_and_come_back() -> None:
    names = {"{home}": "/srv/ann", "{run}": "/srv/ann/ws/runs/3"}
    spec = {"model": "/srv/ann/ws/runs/3/draft", "other": ["/srv/ann/x", "/srv/annex"], "k": 3}
    portable = to_names(spec, names)
    assert portable == {"model": "{run}/draft", "other": ["{home}/x", "/srv/annex"], "k": 3}
    assert from_names(portable, names) == spec
