"""Progress of long work: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from draftsmith.contract.job import JobProgress
from draftsmith.kit.clock import Clock, SystemClock, duration
from draftsmith.kit.logs import line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

LINE_EVERY_S = 10.0
BAR_COLUMNS = 20
PLAIN_TERMINALS = ("", "dumb", "unknown")  # they cannot rewrite a line


class Progress:
    """Where the work stands, on standard error. `terminal`: draw there; default: standard error, if it is one that can."""

    def __init__(self, terminal: Console | None = None, clock: Clock | None = None, *, json_log: bool = False) -> None:
        self.terminal, self.clock, self.json_log = terminal, clock or SystemClock(), json_log
        self.live = not json_log and (
            terminal is not None or (sys.stderr.isatty() and os.environ.get("TERM", "") not in PLAIN_TERMINALS)
        )
        self.told_s: float | None = None
        self.stage = ""
        self.bar: Bar | None = None

    def __call__(self, prefix: str, progress: JobProgress) -> None:
        """Show where `prefix` stands."""
        text = f"  {prefix}: {describe(progress)}"
        if self.live:
            self._draw(text, progress)
            return
        now = self.clock.monotonic()
        if self.told_s is None or progress.stage != self.stage or now - self.told_s >= LINE_EVERY_S:
            self.stage, self.told_s = progress.stage, now
            print(_logged(prefix, progress) if self.json_log else text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the bar: call before anything else is printed."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _draw(self, text: str, progress: JobProgress) -> None:
        if self.bar is None:
            self.bar = self._begin()
        [task] = self.bar.task_ids
        # A stage that cannot be counted has an empty bar, not one that pretends to move.
        self.bar.update(
            task, description=text, completed=progress.done if progress.total else 0, total=progress.total or 1
        )
        self.bar.refresh()

    def _begin(self) -> Bar:
        """A bar that is drawn when there is news: no thread, and nothing of standard output is taken away."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        bar = Bar(
            BarColumn(bar_width=BAR_COLUMNS),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
            console=self.terminal or Console(stderr=True),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        bar.add_task("", total=1)
        bar.start()
        bar.console.show_cursor(True)  # a command that is killed leaves it as it was
        return bar


def _logged(phase: str, progress: JobProgress) -> str:
    message: dict[str, Any] = {
        "stage": progress.stage,
        "done": progress.done,
        "total": progress.total,
        "unit": progress.unit,
    }
    return line("progress", describe(progress), phase=phase, eta_s=progress.eta_s, **message)


def describe(progress: JobProgress) -> str:
    """`training 420/1,000 steps (ETA 1m20s): epoch 2/6 ...`."""
    text = progress.stage
    if progress.total:
        text += f" {progress.done:,.0f}/{progress.total:,.0f} {progress.unit}".rstrip()
        if progress.eta_s is not None and progress.done < progress.total:
            text += f" (ETA {duration(progress.eta_s)})"
    return text + (f": {progress.note}" if progress.note else "")
