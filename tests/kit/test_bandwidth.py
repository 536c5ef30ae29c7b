"""Memory bandwidth of this machine."""

from __future__ import annotations

from draftsmith.kit import bandwidth


class Steps:
    """A clock that moves a hundredth of a second whenever it is read."""

    now = 0.0

    def unix(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_copy_counts_what_it_reads_and_what_it_writes() -> None:
    assert round(bandwidth.measure(cores=2, mebibytes=8, passes=2, clock=Steps())) == 2 * 8 * 2**20 * 100


def test_a_real_machine_moves_more_than_a_hundred_megabytes_a_second() -> None:
    assert bandwidth.measure(mebibytes=16, passes=2) > 1e8
