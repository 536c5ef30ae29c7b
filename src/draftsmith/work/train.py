"""Job: corpus and states -> a draft that the engine loads. Continues from the last epoch's checkpoint."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from draftsmith import wiring
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import RefusedError, TrainerError
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import HelperResult, TrainPlan, TrainResult
from draftsmith.corpus.reading import iter_rows, open_corpus
from draftsmith.corpus.target_tokens import TargetTokens
from draftsmith.corpus.vocabulary import choose_draft_vocab, load_token_freq, mapping
from draftsmith.kit import gpu
from draftsmith.kit.files import private_dir, read_json, read_lines, write_atomic, write_json
from draftsmith.trainers import choice
from draftsmith.trainers.base import Step, TrainingTask
from draftsmith.trainers.convert import convert_draft
from draftsmith.trainers.draft_folder import read_draft
from draftsmith.trainers.lint import lint_draft, served_tokens
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.mask_token import choose_mask
from draftsmith.trainers.package import for_training, package_draft, trainers_form
from draftsmith.trainers.speculators import BLOCK_METHODS
from draftsmith.trainers.stand_in import write_stand_in
from draftsmith.trainers.target_config import read_config
from draftsmith.trainers.vocabulary_map import read_map
from draftsmith.work.job import Job, run_job
from draftsmith.work.subprocess import run_module

STOPPED = 3
DONE = "trained.json"
STAND_IN = "target"


def body(job: Job[TrainPlan]) -> TrainResult | HelperResult:
    """Train, choose the epoch by acceptance, package and lint."""
    plan = job.plan
    config, target = plan.config, plan.target
    corpus = Path(plan.corpus)
    manifest = open_corpus(corpus)
    lengths = {s: [len(row.input_ids) for row in iter_rows(corpus, s)] for s in ("train", "validation")}
    block = config.trainer.method in BLOCK_METHODS
    prompts = sum(row.prompt_tokens for row in iter_rows(corpus, "train"))
    stand_in = _stand_in(config, target, job)
    task = TrainingTask(
        target=target.path,
        corpus=str(corpus),
        states=plan.states,
        workdir=str(private_dir(job.workdir / "training")),
        layer_ids=plan.layer_ids,
        draft_vocab=_write_vocabulary(corpus, target, config, job.own / "training" / "vocabulary"),
        train_rows=len(lengths["train"]),
        validation_rows=len(lengths["validation"]),
        longest_row=max(lengths["train"] + lengths["validation"]),
        train_tokens=sum(lengths["train"]),
        answer_tokens=sum(lengths["train"]) - prompts,
        target_layers=target.num_layers,
        mask_token=_mask_token(corpus, target, config),
        free_gib=gpu.free_gib(),
        predicted_a_token=config.trainer.block_size if block else config.trainer.ttt_steps,
        normed_residual=wiring.normed_residual(config),
        warm_start=_parent(config, stand_in or Path(target.path), job.own),
        stand_in=str(stand_in) if stand_in else None,
    )
    trainer = wiring.trainer(config)
    done = job.workdir / DONE
    trained = done.exists() and Path(plan.out).is_dir()
    if job.rank:  # nobody is there to train with when rank 0 only has to clear up
        return HelperResult(rank=job.rank) if trained else _assist(job, config, trainer.steps(task)[-1])
    if trained:
        return _finish(job, config, task, done)
    for path, text in trainer.files(task).items():
        write_atomic(Path(path), text)
    began = time.monotonic()
    follow = _Follow(job, trainer.metrics(task), config.trainer.epochs, task, config.trainer.batch_tokens)
    for step in trainer.steps(task):
        job.progress(step.name, 0, None)
        code = run_module(
            step.module, step.arguments, config.trainer.python, Path(step.log), Path(plan.registry), every=follow
        )
        if code:
            raise _failure(step.name, code, trainer.metrics(task), Path(step.log))
    wall_s = time.monotonic() - began
    scores = choice.scores(_records(trainer.metrics(task)))
    chosen = choice.best(scores)
    out = Path(plan.out)
    own = wiring.capturing(config).engine.kind  # the trainer writes for the engine that captures
    packaged = out if config.engine.kind == own else trainers_form(out)
    for folder in {out, packaged}:
        shutil.rmtree(folder, ignore_errors=True)
    versions = plan.versions
    if wiring.ENVIRONMENT in versions:  # nobody could tell them before
        versions = versions | wiring.versions(config, inside=True)
    draft = package_draft(
        trainer.checkpoint(task, chosen.epoch),
        packaged,
        target=target,
        trainer=config.trainer.kind,
        versions=versions,
        layer_ids=task.layer_ids,
        corpus_sha256=manifest.rows_sha256,
        warm_start_from=_named(config.trainer.warm_start),
        epoch=chosen.epoch,
        validation_acceptance=chosen.acceptance,
        trained_tokens=task.train_tokens * config.trainer.epochs,
    )
    if packaged != out:  # both are kept: a later training starts from the trainer's own form
        convert_draft(packaged, out, config.engine.kind)
    parent = Path(config.trainer.warm_start) if config.trainer.warm_start else None
    tokens = served_tokens(config.engine.max_model_len, target)
    report = lint_draft(out, target, served_tokens=tokens, parent=parent, engine=config.engine.kind)
    errors = [finding.sentence for finding in report.findings if finding.level == "error"]
    if errors:
        raise RefusedError(f"the trained draft does not pass lint: {'; '.join(errors)}", "see `draftsmith lint` on it")
    result = TrainResult(
        draft=plan.out,
        draft_sha256=draft.weights_sha256,
        metrics=str(trainer.metrics(task)),
        epochs=tuple(score.model_dump(mode="json") for score in scores),
        chosen_epoch=chosen.epoch,
        validation_acceptance=chosen.acceptance,
        expected_al=chosen.expected_al,
        trained_tokens=task.train_tokens * config.trainer.epochs,
        tokens_per_s=task.train_tokens * config.trainer.epochs / wall_s,
        draft_vocabulary=task.draft_vocab,
        batch_tokens=task.batch_tokens(config.trainer.batch_tokens),
        settings=trainer.shown(task),
        lint_warnings=tuple(finding.sentence for finding in report.findings if finding.level == "warn"),
    )
    write_json(done, {"outputs": result.outputs(), "figures": result.figures()})
    return _finish(job, config, task, done)


def _finish(job: Job[TrainPlan], config: Config, task: TrainingTask, done: Path) -> TrainResult:
    """Delete what was only needed for the training. Killed in the middle of that, a job goes on here and trains nothing anew."""
    if not config.corpus.keep_hidden_states and not job.rank:
        shutil.rmtree(job.plan.states, ignore_errors=True)
        shutil.rmtree(Path(task.workdir) / "data", ignore_errors=True)
    if not job.rank:
        shutil.rmtree(Path(task.workdir) / STAND_IN, ignore_errors=True)
    return TrainResult.of(JobResult(ok=True, **read_json(done)))


def _assist(job: Job[TrainPlan], config: Config, step: Step) -> HelperResult:
    """One of the further ranks: the training step alone, which waits for that of rank 0 in the process group."""
    arguments = list(step.arguments)
    if "--metrics" in arguments:
        arguments[arguments.index("--metrics") + 1] = str(job.own / "metrics.jsonl")
    log = job.own / "train.log"
    code = run_module(step.module, arguments, config.trainer.python, log, Path(job.plan.registry))
    shutil.rmtree(job.own / "training" / STAND_IN, ignore_errors=True)
    if code:
        raise TrainerError(f"rank {job.rank} failed with exit code {code}", f"see {job.own.name}/{log.name}")
    return HelperResult(rank=job.rank)


def _write_vocabulary(corpus: Path, target: TargetFacts, config: Config, out: Path) -> int:
    """d2t.npy and t2d.npy: the parent's on a warm start (it must not change), else chosen from the traffic."""
    if config.trainer.warm_start:
        parent = read_map(read_draft(Path(config.trainer.warm_start)))
        d2t, t2d = parent.offsets, np.zeros(target.vocab_size, dtype=bool)
        t2d[parent.ids()] = True
    else:
        ids, _ = choose_draft_vocab(
            load_token_freq(corpus, target.vocab_size),
            target.vocab_size,
            min_coverage=config.corpus.min_vocab_coverage,
            size=config.trainer.draft_vocab,
            always=TargetTokens(Path(target.path, "tokenizer.json"), target).specials,
            at_least=config.corpus.min_draft_vocab,
        )
        d2t, t2d = mapping(ids, target.vocab_size)
    private_dir(out)
    np.save(out / "d2t.npy", d2t)
    np.save(out / "t2d.npy", t2d)
    return len(d2t)


def _mask_token(corpus: Path, target: TargetFacts, config: Config) -> int | None:
    """For a new block draft only: a parent brings its own."""
    if config.trainer.method not in BLOCK_METHODS or config.trainer.warm_start:
        return None
    tokens = TargetTokens(Path(target.path, "tokenizer.json"), target)
    return choose_mask(tokens.specials, load_token_freq(corpus, target.vocab_size), read_config(Path(target.path)))


def _stand_in(config: Config, target: TargetFacts, job: Job[TrainPlan]) -> Path | None:
    """What speculators is shown of the target; SpecForge reads the target itself. Kept until the training is over."""
    if config.trainer.kind != "speculators":
        return None
    place = job.own / "training" / STAND_IN
    return place if (place / "model.safetensors").exists() else write_stand_in(Path(target.path), place)


def _parent(config: Config, verifier: Path, workdir: Path) -> str | None:
    """The draft to start from, in the form the trainer wants; None for a fresh start."""
    if not config.trainer.warm_start:
        return None
    parent = Path(config.trainer.warm_start)
    beside = trainers_form(parent)
    return str(for_training(beside if beside.is_dir() else parent, workdir / "training" / "parent", verifier))


def _named(parent: str | None) -> str | None:
    """The parent by its folder's name and its weights: a manifest travels, paths do not."""
    return f"{Path(parent).name} ({weights_sha256(Path(parent))[:12]})" if parent else None


def _records(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in read_lines(path)]


class _Follow:
    """Turns metric records into progress. Reads only what is new."""

    def __init__(
        self, job: Job[TrainPlan], path: Path, epochs: int, task: TrainingTask, batch_tokens: int | None
    ) -> None:
        self.job, self.path, self.epochs = job, path, epochs
        self.position = path.stat().st_size if path.exists() else 0
        per_epoch = task.train_tokens / task.batch_tokens(batch_tokens)
        self.steps_per_epoch: float = max(per_epoch, 1.0)
        self.known = False
        self.note = ""

    def __call__(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as source:
            source.seek(self.position)
            for raw in source:
                if not raw.endswith(b"\n"):
                    break
                self.position += len(raw)
                self.see(orjson.loads(raw))

    def see(self, record: dict[str, Any]) -> None:
        """Update progress from one record."""
        if record.get("val"):
            score = choice.scores([record])[0]
            shown = ", ".join(f"{a:.3f}" for a in score.acceptance)
            self.note = f"epoch {score.epoch + 1}/{self.epochs}: validation acceptance {shown}, loss {score.loss:.3f}"
            self.job.progress("training", (score.epoch + 1) / self.epochs * 100, 100, "%", self.note)
        elif "train" in record:
            epoch, step = int(record.get("epoch", 0)), int(record["global_step"])
            if epoch and not self.known:
                self.steps_per_epoch, self.known = step / epoch, True
            share = min((step + 1) / (self.steps_per_epoch * self.epochs), 0.99)
            loss = record["train"].get("loss") or math.nan
            note = self.note or f"epoch {epoch + 1}/{self.epochs}, loss {loss:.3f}"
            self.job.progress("training", share * 100, 100, "%", note)


def _failure(step: str, code: int, metrics: Path, log: Path) -> TrainerError:
    records = _records(metrics)
    stopped = records[-1].get("stopped") if code == STOPPED and records else None
    if stopped:
        return TrainerError(f"training was stopped: {stopped['reason']}", stopped["hint"])
    if code in (-9, 137):
        return TrainerError(f"{step} was killed (often: out of memory)", "lower trainer.batch_tokens, then run again")
    return TrainerError(f"{step} failed with exit code {code}", f"see {log.name} in the train job's folder")


if __name__ == "__main__":
    raise SystemExit(run_job(body, TrainPlan))
