"""One question for all jobs: squeue, and sacct for those that left the queue; asked again with back-off.

However many jobs there are and however often `poll` is called, the scheduler hears one squeue in an interval, which
grows while nothing changes and doubles while it fails.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from draftsmith.backends.base import CouldNotLookError
from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.backends.slurm_parse import SACCT_FORMAT, SQUEUE_FORMAT, Row, parse_sacct, parse_squeue
from draftsmith.contract.errors import DraftsmithError
from draftsmith.kit.clock import Clock

_SACCT_BATCH = 5000  # ids of 12 digits in one argument stay under the kernel's 128 KiB
_GROWTH = 1.5

Rows = dict[str, list[Row]]


class SlurmQueue:
    """The last answer of the scheduler about this user's jobs, by job id."""

    def __init__(self, commands: SlurmCommands, options: SlurmOptions, clock: Clock) -> None:
        self._commands = commands
        self._options = options
        self._clock = clock
        self._interval_s = options.poll_s
        self._ask_again_at = float("-inf")
        self._rows: Rows = {}
        self._failure: str | None = None
        self._accounting = options.accounting == "auto"

    def rows(self) -> Rows:
        """Jobs that squeue knows: all live ones, and ended ones for some minutes. Raises CouldNotLookError."""
        now = self._clock.monotonic()
        if now >= self._ask_again_at:
            self._ask()
            self._ask_again_at = self._clock.monotonic() + self._interval_s
        if self._failure is not None:
            raise CouldNotLookError(self._failure)
        return self._rows

    def expect_change(self) -> None:
        """Something was just submitted or cancelled: ask at the next look, and often again."""
        self._interval_s = self._options.poll_s
        self._ask_again_at = float("-inf")

    def ended(self, job_ids: Sequence[str]) -> Rows:
        """What accounting knows of jobs that left the queue; empty on a site without it. Raises CouldNotLookError."""
        rows: Rows = defaultdict(list)
        for start in range(0, len(job_ids), _SACCT_BATCH):
            for row in self._sacct(job_ids[start : start + _SACCT_BATCH]):
                rows[row.job_id].append(row)
        return dict(rows)

    def _ask(self) -> None:
        argv = ("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", f"--format={SQUEUE_FORMAT}")
        try:
            answer: Rows = defaultdict(list)
            for row in parse_squeue(self._commands.run(argv)):
                answer[row.job_id].append(row)
        except (DraftsmithError, ValueError) as error:
            self._failure = error.message if isinstance(error, DraftsmithError) else str(error)
            self._interval_s = min(self._interval_s * 2, self._options.poll_max_s)
            return
        unchanged = self._failure is None and answer == self._rows
        longer = min(self._interval_s * _GROWTH, self._options.poll_max_s)
        self._interval_s = longer if unchanged else self._options.poll_s
        self._rows, self._failure = dict(answer), None

    def _sacct(self, job_ids: Sequence[str]) -> list[Row]:
        if not self._accounting or not job_ids or not self._commands.has("sacct"):
            return []
        jobs = f"--jobs={','.join(job_ids)}"
        try:
            return parse_sacct(
                self._commands.run(
                    ("sacct", "--noheader", "--parsable2", "--allocations", jobs, f"--format={SACCT_FORMAT}")
                )
            )
        except DraftsmithError as error:
            if "accounting storage is disabled" in error.message.lower():
                self._accounting = False
                return []
            raise CouldNotLookError(error.message) from error
        except ValueError as error:
            raise CouldNotLookError(f"sacct: {error}") from error
