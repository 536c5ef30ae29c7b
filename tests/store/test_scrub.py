"""Text of foreign programs is scrubbed in time that grows with its length, whatever it is made of."""

from __future__ import annotations

import time

import pytest

from draftsmith.store.scrub import HIDDEN, Scrubber


@pytest.mark.parametrize(
    "piece", ["-", "--a", "key=", '"', "/home/", "-----BEGIN PRIVATE KEY-----", "a://", "authorization: ", "?a-"]
)
def test_no_text_takes_longer_than_its_length(piece: str) -> None:  # fmt: skip
    began = time.process_time()
    Scrubber.of({}, {}).text(piece * (8000 // len(piece)))
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "written", ["--api-key K-1234567890 -x", "---hf-token=K-1234567890", "x--my-own-api-key K-1234567890"]
)
def test_a_flag_is_known_by_its_name_wherever_it_begins(written: str) -> None:  # fmt: skip
    assert "K-123" not in Scrubber.of({}, {}).text(written)
    assert HIDDEN in Scrubber.of({}, {}).text(written)
