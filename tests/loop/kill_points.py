"""Kills a story with SIGKILL at its N-th touch of the file system, does it again, and says how it ended.

    python kill_points.py FOLDER STORY POINTS      prints JSON: what an undisturbed story leaves, and each that was killed

Every attempt is a fork of this process, so that a hundred of them cost seconds: what is slow was imported once.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from bundle_world import parts
from loop_world import answered_log
from promotions import NGRAM, Promotion
from tiny_target import write_target

from draftsmith.contract.base import canonical
from draftsmith.contract.config import Config
from draftsmith.contract.errors import RefusedError
from draftsmith.contract.jobs import CorpusPlan, ProfilePlan
from draftsmith.loop import promotion
from draftsmith.loop.service import remember_run
from draftsmith.store.evidence import recompute, verify_bundle, write_bundle
from draftsmith.store.state import read_state
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.target import read_target
from draftsmith.work import corpus, profile
from draftsmith.work.job import run_job

TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.listdir")


def draft(folder: Path) -> dict[str, Any]:
    place = folder / "trained"
    place.mkdir(exist_ok=True)
    (place / "model.safetensors").write_bytes(b"weights" * 100)
    (place / "config.json").write_text("{}")
    return {"method": "eagle3", "model": str(place), "num_speculative_tokens": 3}


def promote(folder: Path) -> None:
    config = draft(folder)
    story = Promotion(folder, NGRAM, config, weights_sha256(Path(config["model"])))
    remember_run(story.run, story.context)
    story.promote()


def roll_back(folder: Path) -> None:
    with contextlib.suppress(RefusedError):  # it was done before the kill
        promotion.rollback(folder, Promotion(folder, NGRAM, None).serving)


def publish(folder: Path) -> None:
    write_bundle(folder / "evidence", parts(blocks=5), replace_after=lambda new: require(verify_bundle(new).ok))


def verify(folder: Path) -> None:
    require(verify_bundle(folder / "evidence" / "smollm2" / "0001").ok)


def decide(folder: Path) -> None:
    whole = parts(blocks=5)
    assert whole.plan is not None
    (folder / "verdict").write_text(recompute(whole.plan, list(whole.trials), list(whole.facts)).model_dump_json())


def profile_traffic(folder: Path) -> None:
    require(run_job(profile.body, ProfilePlan, ["", str(folder / "profile" / "plan.json")]) == 0)


def build_corpus(folder: Path) -> None:
    require(run_job(corpus.body, CorpusPlan, ["", str(folder / "corpus" / "plan.json")]) == 0)


def require(condition: bool) -> None:
    if not condition:
        raise AssertionError


def nothing(folder: Path) -> None:
    folder.mkdir()


def promoted(folder: Path) -> None:
    folder.mkdir()
    promote(folder)


def published(folder: Path) -> None:
    folder.mkdir()
    write_bundle(folder / "evidence", parts())


def with_traffic(folder: Path) -> None:
    """A target, its log, and the plans of the first two jobs."""
    target = write_target(folder / "target")
    log = folder / "access.jsonl"
    log.write_text(
        "".join(canonical(r.model_dump(mode="json", by_alias=True)) + "\n" for r in answered_log(target, 24))
    )
    common: dict[str, Any] = {
        "config": Config.model_validate({"trainer": {"draft_vocab": 128}}),
        "target": read_target(target), "registry": str(folder / "processes"), "sources": (str(log),),
        "layer_ids": (1, 2),
    }  # fmt: skip
    profiled, built = folder / "profile", folder / "corpus"
    profiled.mkdir()
    built.mkdir()
    plan = ProfilePlan(out=str(profiled / "workload-profile.json"), **common)
    (profiled / "plan.json").write_text(plan.model_dump_json())
    rows = CorpusPlan(out=str(built / "corpus"), states=str(built / "states"), **common)
    (built / "plan.json").write_text(rows.model_dump_json())


STORIES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "profile": (with_traffic, profile_traffic),
    "corpus": (with_traffic, build_corpus),
    "promote": (nothing, promote),
    "rollback": (promoted, roll_back),
    "publish": (published, publish),
    "verify": (published, verify),
    "decide": (nothing, decide),
}


def end_of(folder: Path) -> dict[str, Any]:
    """What counts at the end: what serves, what is remembered, drafts and evidence; and that nothing half-made is seen."""
    state = read_state(folder)
    history = [entry.model_dump(exclude={"at_unix_s"}) for entry in state.history] if state else []
    bundles = {path.name: verify_bundle(path).ok for path in folder.glob("evidence/*/[!.]*")}
    standing = folder / "standing.json"
    return {
        "standing": json.loads(standing.read_text()) if standing.exists() else None,
        "state": state.model_dump(mode="json", exclude={"history"}) if state else None,
        "history": history,
        "drafts": sorted(p.relative_to(folder).as_posix() for p in folder.glob("drafts/*/*")),
        "bundles": bundles,
        "made": [
            {name: value for name, value in json.loads(path.read_text()).items() if name != "wall_s"}
            for path in sorted(folder.glob("*/result.json"))
        ],
        "rows": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob("corpus/corpus/*"))
        },
        "plans": sorted(path.stat().st_size for path in folder.glob("evidence/*/[!.]*/samples.jsonl")),
    }


def attempt(act: Callable[[Path], None], folder: Path, kill_at: int | None) -> tuple[int, int, list[str]]:
    """Do the story in a fork. Returns its exit code, negative after a signal; if it ended well, its touches and its modules."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        touches = itertools.count(1)
        last = 0

        def hook(event: str, arguments: Any) -> None:
            nonlocal last
            if event in TOUCHES and str(folder) in str(arguments[0]):
                last = next(touches)
                if last == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            act(folder)
            os.write(writing, json.dumps([last, list(sys.modules)]).encode())
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        touches, modules = json.loads(pipe.read() or "[0, []]")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), touches, modules


def main(base: Path, story: str, points: int) -> int:
    begin, act = STORIES[story]
    kept, folder = base / "kept", base / "work"
    begin(folder)
    shutil.copytree(folder, kept, symlinks=True)
    code, touches, modules = attempt(act, folder, None)
    require(code == 0)
    for name in modules:  # what each attempt would import anew
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    told: dict[str, Any] = {"touches": touches, "undisturbed": end_of(folder), "killed": {}}
    chosen = (
        range(1, touches + 1) if touches <= points else sorted(random.Random(1).sample(range(1, touches + 1), points))
    )
    for point in chosen:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, symlinks=True)
        code, *_ = attempt(act, folder, point)
        require(code == -signal.SIGKILL)
        evidence = [verify_bundle(path).ok for path in folder.glob("evidence/*/[!.]*")]
        code, *_ = attempt(act, folder, None)
        told["killed"][point] = {"code": code, "between": evidence, "end": end_of(folder)}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
