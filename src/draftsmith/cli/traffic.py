"""Commands on traffic: profile, drift, mix and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.frontier import last_words, of_evidence
from draftsmith.cli.output import show
from draftsmith.cli.progress import Progress
from draftsmith.cli.records import Map, format_of
from draftsmith.contract.errors import InputError


def profile(
    sources: Annotated[list[str] | None, typer.Argument(help="access logs: files, folders, globs, URLs or -")] = None,
    given: Annotated[list[str] | None, typer.Option("--in", help="the same as an option")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="tokenizer.json or its folder; default: the target's")
    ] = None,
    target: o.Target = None,
    format: Annotated[str | None, typer.Option("--format", help="name of the format; default: recognised")] = None,
    map: Map = None,
    exact: Annotated[
        bool | None, typer.Option("--exact/--estimate", help="count every token, or sample large logs")
    ] = None,
    aa_shapes: Annotated[
        str | None,
        typer.Option(
            "--aa-shapes", help="no traffic: bench shapes ISL:OSL,...; without a value 1k, 10k and 100k input"
        ),
    ] = None,
    rejects: Annotated[Path | None, typer.Option("--rejects", help="write lines that could not be used here")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="where the profile goes")] = Path("workload-profile.json"),
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Measure traffic: lengths, classes, parameters, arrivals, and what trainless methods would accept on it.

    Writes workload-profile.json. It holds aggregates only: no prompt, no answer. Lines that cannot be used are counted by
    reason; only a log without any usable record is an error.
    """
    from draftsmith import api
    from draftsmith.profiling.summary import render
    from draftsmith.report.parts import ReportParts

    line = Progress()
    found = api.profile(
        o.configuration(config, target=target),
        [*(sources or []), *(given or [])] or None,
        tokenizer=tokenizer,
        format=format_of(format, map),
        exact=exact,
        aa_shapes=aa_shapes,
        rejects=rejects,
        out=out,
        on_progress=lambda progress: line("profile", progress),
    )
    line.clear()
    after = of_evidence(ReportParts(profile=found), out.stem)
    show(found, _text(render(found)) + f"\nwritten to {out}{last_words(after)}")


def _text(rendered: object) -> str:
    if isinstance(rendered, str):
        return rendered
    if isinstance(rendered, list | tuple):
        return "\n".join(str(line) for line in rendered)
    from io import StringIO

    from rich.console import Console

    buffer = StringIO()
    Console(file=buffer, width=110).print(rendered)
    return buffer.getvalue().rstrip()


def replay(
    prompts: Annotated[
        Path, typer.Argument(help="JSON lines: id, messages (or prompt_token_ids), params, max_tokens, arrival_s")
    ],
    endpoint: Annotated[str, typer.Option("--endpoint", "-e", help="URL of an OpenAI-compatible server")],
    out: Annotated[Path, typer.Option("--out", "-o", help="access log to write; an existing one is continued")] = Path(
        "access.jsonl"
    ),
    model: Annotated[str | None, typer.Option("--model", help="served model; default: the first one listed")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="requests in flight")] = 8,
    arrivals: Annotated[
        bool, typer.Option("--arrivals", help="send at the recorded arrival_s instead (open loop)")
    ] = False,
    speed: Annotated[float, typer.Option("--speed", help="with --arrivals: how much faster than recorded")] = 1.0,
    limit: Annotated[int | None, typer.Option("--limit", help="at most so many prompts")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="limit where the prompt has none")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="environment variable that holds the API key")
    ] = None,
    json: o.Json = False,
) -> None:
    """Replay prompts against a server and write an access log with exact token ids, usage and timings.

    Prompts that the log already answers are not sent again: run it again after an interruption.
    """
    from draftsmith import api

    line = Progress()
    found = api.replay(
        prompts,
        endpoint,
        out,
        model=model,
        concurrency=concurrency,
        arrivals=arrivals,
        speed=speed,
        limit=limit,
        max_tokens=max_tokens,
        api_key_env=api_key_env,
        on_progress=lambda progress: line("replay", progress),
    )
    line.clear()
    text = (
        f"{found.answered} answered, {found.failed} failed, {found.skipped} already there; "
        f"{found.output_tokens:,} output tokens in {found.wall_s:.1f} s at concurrency {concurrency}\nwritten to {out}"
        f"\nnext     see what this traffic would accept without a draft: draftsmith profile {out}\n"
        "  expected unlock: not to be told from a replay; the profile's simulation gives it by method\n"
        "  gate: draftsmith compare on these prompts, the interval's lower end clears the bar"
    )
    show(found, text)


def drift(
    before: Annotated[Path, typer.Argument(help="workload-profile.json of then")],
    after: Annotated[Path, typer.Argument(help="workload-profile.json of now")],
    json: o.Json = False,
) -> None:
    """Say whether traffic moved between two profiles, what moved, and how far beyond the noise of the same traffic.

    Exit code 1 if it drifted, 0 if not or if the profiles cannot tell.
    """
    from draftsmith import api

    report = api.drift(before, after)
    lines = [report.sentence, *(f"  {item.sentence}" for item in report.measures)]
    lines += [f"  not compared: {name}" for name in report.unknown]
    show(report, "\n".join(lines))
    if report.drifted:
        raise typer.Exit(1)


def mix(
    profile: Annotated[Path, typer.Argument(help="workload-profile.json of traffic whose text you may not have")],
    public: Annotated[
        list[str], typer.Option("--public", help="NAME=SOURCE: a set of public requests, in any known format; several")
    ],
    target: o.Target = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="tokenizer.json or its folder; default: the target's")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="also draw prompts by these weights into this file, for `replay`")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="with --prompts: how many")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="other prompts are drawn for another seed")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="where the plan goes")] = Path("public-mix.json"),
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Plan a corpus for traffic without text: weights over public sets that come closest to its lengths and classes.

    The answers of public sets are not the target's: draw prompts, let the target answer them with `draftsmith replay`, and
    give that log to `draftsmith run`.
    """
    from draftsmith import api

    found = api.mix(
        o.configuration(config, target=target),
        profile,
        dict(_named(item) for item in public),
        tokenizer=tokenizer,
        prompts=prompts,
        rows=rows,
        seed=seed,
        out=out,
    )
    lines = [f"{name:16} {weight:7.1%}   of {found.available[name]}" for name, weight in found.plan["weights"].items()]
    lines += [
        f"largest gap to the profile in any class or length: {found.plan['largest_gap']:.1%}",
        f"written to {out}",
    ]
    if prompts is not None:
        lines.append(f"{sum(found.drawn.values())} prompts drawn into {prompts}; next: draftsmith replay {prompts} ...")
    show(found.as_json(), "\n".join(lines))


def _named(item: str) -> tuple[str, str]:
    name, found, source = item.partition("=")
    if not (name and found and source):
        raise InputError(f"--public {item!r} is not NAME=SOURCE", "write for example --public code=code.jsonl")
    return name, source
