"""Every back end keeps the same promises. What is told here holds wherever a job runs."""

from __future__ import annotations

import json

import pytest
from places import FAMILY, OK, SLEEP, WRITE, Place, gone, until

from draftsmith.backends.notes import NOTE
from draftsmith.contract.errors import BackendError, InputError, RefusedError


def test_a_job_ends_well_only_with_its_result(place: Place) -> None:
    good, silent = place.run("r1.good", OK), place.run("r1.silent", "pass")

    assert place.end_of(good).state == "SUCCEEDED"
    assert place.end_of(silent).state == "FAILED"
    assert "without a result" in place.end_of(silent).detail
    assert place.file("r1.good", "stdout.log").read_text() == "said\n"


def test_its_folder_and_its_output_are_private(place: Place) -> None:
    place.end_of(place.run("r1.good", OK))

    assert place.file("r1.good", ".").stat().st_mode & 0o077 == 0
    for file in ("stdout.log", "stderr.log", NOTE):
        assert place.file("r1.good", file).stat().st_mode & 0o077 == 0


def test_a_crash_carries_its_exit_code_and_leaves_its_words_in_the_log(place: Place) -> None:
    handle = place.run("r1.crash", "import sys; sys.stderr.write('why\\n'); sys.exit(3)")

    assert place.end_of(handle).state == "FAILED"
    assert place.end_of(handle).exit_code == 3
    assert place.file("r1.crash", "stderr.log").read_text() == "why\n"


def test_a_job_that_can_explain_its_failure_is_quoted(place: Place) -> None:
    handle = place.run("r1.told", WRITE + "write(ok=False, error='the disk is full'); raise SystemExit(5)")

    assert place.end_of(handle).state == "FAILED"
    assert place.end_of(handle).detail == "the disk is full"
    assert place.end_of(handle).exit_code == 5


def test_a_result_of_another_form_is_a_failure_that_shows_none_of_it(place: Place) -> None:
    handle = place.run("r1.odd", WRITE + "write(ok=True, secret='sesame')")

    assert place.end_of(handle).state == "FAILED"
    assert "form of a result" in place.end_of(handle).detail
    assert "sesame" not in place.end_of(handle).detail


def test_an_interrupted_job_may_be_started_again(place: Place) -> None:
    handle = place.run("r1.int", WRITE + "write(ok=False, error_kind='RunInterruptedError')")

    assert place.end_of(handle).state == "LOST"


def test_a_restart_adopts_the_running_job(place: Place) -> None:
    handle = place.run("r1.long", SLEEP)
    place.started("r1.long")

    place.backend = place.open()

    assert place.backend.find("r1.long") == handle
    assert place.run("r1.long", SLEEP) == handle
    assert place.state(handle) == "RUNNING"
    assert place.file("r1.long", "starts").read_text() == "x"


def test_a_job_whose_handle_was_never_written_down_is_adopted_too(place: Place) -> None:
    handle = place.run("r1.long", SLEEP)
    place.started("r1.long")
    place.forget_handle("r1.long")

    place.backend = place.open()

    assert place.run("r1.long", SLEEP) == handle
    assert place.file("r1.long", "starts").read_text() == "x"


def test_a_running_name_is_not_given_to_another_program(place: Place) -> None:
    place.run("r1.long", SLEEP)

    with pytest.raises(RefusedError, match="another program"):
        place.run("r1.long", OK)


def test_an_ended_name_may_run_again_and_its_old_result_is_gone(place: Place) -> None:
    first = place.run("r1.again", OK)
    place.end_of(first)
    second = place.run("r1.again", "raise SystemExit(4)")

    assert second != first
    assert place.end_of(second).state == "FAILED"
    assert place.state(first) in {"LOST", "SUCCEEDED"}  # judged before, or another submission took its name
    assert place.backend.find("r1.again") == second


def test_one_poll_answers_for_all(place: Place) -> None:
    good, bad, long = place.run("r1.good", OK), place.run("r1.bad", "raise SystemExit(1)"), place.run("r1.long", SLEEP)
    place.end_of(good)
    place.end_of(bad)
    until(lambda: place.state(long) == "RUNNING")

    states = {handle: status.state for handle, status in place.backend.poll([good, bad, long, "nonsense"]).items()}

    assert states == {good: "SUCCEEDED", bad: "FAILED", long: "RUNNING", "nonsense": "UNKNOWN"}
    assert place.backend.poll([]) == {}


def test_cancel_ends_the_job_and_all_its_children(place: Place) -> None:
    handle = place.run("r1.family", FAMILY)
    child = place.file("r1.family", "child")
    until(lambda: child.exists() and child.read_text().endswith(" "))
    place.backend.cancel(handle)

    assert place.end_of(handle).state == "CANCELLED"
    until(lambda: gone(int(child.read_text())))


def test_cancel_again_or_too_late_does_no_harm(place: Place) -> None:
    long, good = place.run("r1.long", SLEEP), place.run("r1.good", OK)
    place.end_of(good)
    for _ in range(2):
        place.backend.cancel(long)
        place.backend.cancel(good)

    assert place.end_of(long).state == "CANCELLED"
    assert place.end_of(good).state == "SUCCEEDED"


def test_a_job_gone_without_a_trace_is_lost_and_may_start_again(place: Place) -> None:
    lost = place.vanish(place.spec("r1.lost", SLEEP))
    place.backend = place.open()

    assert place.state(lost) == "LOST"
    again = place.backend.submit(place.spec("r1.lost", SLEEP))
    assert again != lost
    until(lambda: place.state(again) == "RUNNING")


def test_what_cannot_be_looked_at_is_unknown_and_nothing_is_started_on_a_guess(place: Place) -> None:
    handle = place.run("r1.good", OK)
    place.end_of(handle)
    place.file("r1.good", NOTE).write_text("{")
    place.backend = place.open()

    assert place.state(handle) == "UNKNOWN"
    with pytest.raises(BackendError, match="damaged"):
        place.run("r1.good", OK)


def test_a_result_that_cannot_be_read_is_unknown(place: Place) -> None:
    handle = place.run("r1.odd", "import os; os.mkdir('result.json')")
    until(lambda: place.state(handle) == "UNKNOWN")

    with pytest.raises(BackendError, match="cannot tell"):
        place.run("r1.odd", OK)


def test_a_folder_given_to_another_job_no_longer_speaks_for_the_first(place: Place) -> None:
    first = place.run("r1.first", "raise SystemExit(1)")
    place.end_of(first)
    place.end_of(place.backend.submit(place.spec("r1.second", OK, workdir=str(place.root / "runs" / "r1.first"))))
    place.backend = place.open()

    assert place.state(first) == "LOST"
    assert place.backend.find("r1.first") is None


def test_a_name_never_used_is_not_found(place: Place) -> None:
    assert place.backend.find("r1.never") is None


@pytest.mark.parametrize("name", ["", "../up", "a b", "a@b", "-rf", "x" * 200])
def test_a_name_that_is_no_file_name_is_refused(place: Place, name: str) -> None:
    with pytest.raises(InputError):
        place.run(name, OK)


def test_variables_arrive_as_they_are(place: Place) -> None:
    odd = 'it\'s "$HOME" `x` \\ \n two'
    code = WRITE + "import os; write(ok=True, outputs={'odd': os.environ['ODD']})"
    spec = place.spec("r1.env", code, env={"ODD": odd}, workdir=str(place.root / "runs" / "with space"))
    handle = place.backend.submit(spec)

    assert place.end_of(handle).state == "SUCCEEDED"
    result = json.loads((place.root / "runs/with space/result.json").read_text())
    assert result["outputs"]["odd"] == odd


def test_a_job_knows_its_folder(place: Place) -> None:
    code = WRITE + "import os; write(ok=True, outputs={'folder': os.environ['DRAFTSMITH_JOB_DIR']})"
    handle = place.run("r1.folder", code)

    assert place.end_of(handle).state == "SUCCEEDED"
    assert json.loads(place.file("r1.folder", "result.json").read_text())["outputs"]["folder"] == str(
        place.root / "runs" / "r1.folder"
    )
