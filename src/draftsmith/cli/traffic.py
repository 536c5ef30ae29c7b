"""Commands on traffic: profile, drift, mix and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.frontier import last_words, of_evidence
from draftsmith.cli.output import Mode, show
from draftsmith.cli.progress import Progress
from draftsmith.cli.records import Map, format_of
from draftsmith.contract.errors import InputError


def profile(
    sources: Annotated[list[str] | None, typer.Argument(help="access logs: files, folders, globs, URLs or -")] = None,
    given: Annotated[list[str] | None, typer.Option("--in", help="access log, the same as the argument")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="tokenizer.json or its folder; default: the target's")
    ] = None,
    target: o.Target = None,
    format: Annotated[str | None, typer.Option("--format", help="name of the format; default: detected")] = None,
    map: Map = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--estimate", help="tokenise every text, or estimate from a sample; default: by the size of the log"
        ),
    ] = None,
    aa_shapes: Annotated[
        str | None,
        typer.Option(
            "--aa-shapes",
            help="bench shapes ISL:OSL,... instead of traffic; without a value: 1k, 10k and 100k input tokens",
        ),
    ] = None,
    rejects: Annotated[Path | None, typer.Option("--rejects", help="file for the lines that could not be used")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="output file")] = Path("workload-profile.json"),
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

    line = Progress(json_log=Mode.json_log)
    profile = api.profile(
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
    after = of_evidence(ReportParts(profile=profile), out.stem)
    show(profile, _text(render(profile)) + f"\nwritten to {out}{last_words(after)}")


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
    out: Annotated[Path, typer.Option("--out", "-o", help="access log to write; an existing log is continued")] = Path(
        "access.jsonl"
    ),
    model: Annotated[
        str | None, typer.Option("--model", help="name of the served model; default: the first model of the server")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="requests in flight")] = 8,
    arrivals: Annotated[bool, typer.Option("--arrivals", help="send each prompt at its arrival_s (open loop)")] = False,
    speed: Annotated[
        float, typer.Option("--speed", help="with --arrivals: speed-up of the arrival times (2 = twice as fast)")
    ] = 1.0,
    limit: Annotated[int | None, typer.Option("--limit", help="maximum number of prompts")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="max_tokens for prompts without one")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="environment variable that holds the API key")
    ] = None,
    json: o.Json = False,
) -> None:
    """Replay prompts against a server and write an access log with exact token ids, usage and timings.

    Prompts that the log already answers are not sent again: run it again after an interruption.
    """
    from draftsmith import api

    line = Progress(json_log=Mode.json_log)
    summary = api.replay(
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
        f"{summary.answered} answered, {summary.failed} failed, {summary.skipped} already there"
        f"{f', {summary.media} with media left out' if summary.media else ''}; "
        f"{summary.output_tokens:,} output tokens in {summary.wall_s:.1f} s at concurrency {concurrency}\nwritten to {out}"
        f"\nnext     see what this traffic would accept without a draft: draftsmith profile {out}\n"
        "  expected unlock: not to be told from a replay; the profile's simulation gives it by method\n"
        "  gate: draftsmith compare on these prompts, the interval's lower end clears the bar"
    )
    show(summary, text)


def drift(
    before: Annotated[Path, typer.Argument(help="earlier workload-profile.json")],
    after: Annotated[Path, typer.Argument(help="later workload-profile.json")],
    json: o.Json = False,
) -> None:
    """Report drift between two profiles: what changed, and by how much more than the noise of unchanged traffic.

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
    profile: Annotated[Path, typer.Argument(help="workload-profile.json of traffic whose text is not available")],
    public: Annotated[
        list[str],
        typer.Option("--public", help="NAME=SOURCE: a set of public requests in any known format; can be repeated"),
    ],
    target: o.Target = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="tokenizer.json or its folder; default: the target's")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="also write prompts drawn with these weights to this file, for `replay`"),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="with --prompts: number of prompts")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="seed of the random draw")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="output file")] = Path("public-mix.json"),
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Plan a corpus for traffic without text: weights of public sets whose mix is closest to its lengths and classes.

    The answers of public sets are not the target's: draw prompts, let the target answer them with `draftsmith replay`, and
    give that log to `draftsmith run`.
    """
    from draftsmith import api

    mixture = api.mix(
        o.configuration(config, target=target),
        profile,
        dict(_named(item) for item in public),
        tokenizer=tokenizer,
        prompts=prompts,
        rows=rows,
        seed=seed,
        out=out,
    )
    lines = [
        f"{name:16} {weight:7.1%}   of {mixture.available[name]}" for name, weight in mixture.plan["weights"].items()
    ]
    lines += [
        f"largest gap to the profile in any class or length: {mixture.plan['largest_gap']:.1%}",
        f"written to {out}",
    ]
    if prompts is not None:
        lines.append(
            f"{sum(mixture.drawn.values())} prompts drawn into {prompts}; next: draftsmith replay {prompts} ..."
        )
    show(mixture.as_json(), "\n".join(lines))


def _named(item: str) -> tuple[str, str]:
    name, separator, source = item.partition("=")
    if not (name and separator and source):
        raise InputError(f"--public {item!r} is not NAME=SOURCE", "write for example --public code=code.jsonl")
    return name, source
