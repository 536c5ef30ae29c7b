"""A lake in a folder: what is refused, what is written, and that it is written once."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from bundle_world import parts, recompute
from lake_world import bundle

from draftsmith import api
from draftsmith.contract.errors import (
    BackendError,
    ConfigError,
    EvidenceError,
    InputError,
    NoVerdictError,
    PrerequisiteError,
    RefusedError,
)
from draftsmith.lake import places, put, query
from draftsmith.lake.questions import QUESTIONS
from draftsmith.lake.rows import rows_of
from draftsmith.store.evidence import BundleParts, write_bundle


def lake_of_one(folder: Path) -> str:
    api.ship(bundle(folder / "b"), str(folder / "one"))
    return str(folder / "one")


def objects(lake: Path) -> dict[str, bytes]:
    return {str(path.relative_to(lake)): path.read_bytes() for path in sorted(lake.rglob("*")) if path.is_file()}


def test_another_reader_finds_the_verdict(tmp_path: Path) -> None:
    made, lake = bundle(tmp_path / "b"), tmp_path / "lake"
    told = json.loads((made / "verdict.json").read_text())
    shipped = api.ship(made, f"file://{lake}")
    row = pl.read_parquet(lake / "campaigns" / "**" / "*.parquet", hive_partitioning=True).to_dicts()[0]
    assert (row["campaign"], row["family"], str(row["date"])) == ("0001", "smollm2", "2001-09-09")
    assert row["outcome"] == told["outcome"]
    assert row["speedup"] == told["pairs"][0]["speedup"]["value"]
    assert row["manifest_sha256"] == shipped.manifest_sha256 == api.verify(made).manifest_sha256
    arms = pl.read_parquet(lake / "arms" / "**" / "*.parquet").to_dicts()
    tailored = next(arm for arm in arms if arm["arm"] == "tailored")
    assert (tailored["method"], tailored["k"], tailored["osl_p50"]) == ("eagle3", 3, 40)
    pairs = pl.read_parquet(lake / "pairs" / "**" / "*.parquet").to_dicts()
    assert {guard["name"] for guard in pairs[0]["guards"]} == {guard["name"] for guard in told["pairs"][0]["guards"]}


def test_the_same_bundle_is_there_once_wherever_it_comes_from(tmp_path: Path) -> None:
    made, lake = bundle(tmp_path / "b"), tmp_path / "lake"
    api.ship(made, str(lake))
    before = objects(lake)
    shutil.copytree(made, tmp_path / "other-family" / "other-name")
    again = api.ship(tmp_path / "other-family" / "other-name", f"file://{lake}")
    assert again.written == ()
    assert len(again.kept) == 3
    assert objects(lake) == before


def test_what_does_not_verify_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    made, lake = bundle(tmp_path / "b"), tmp_path / "lake"
    made.chmod(0o700)
    (made / "summary.md").chmod(0o600)
    (made / "summary.md").write_text("better")
    with pytest.raises(EvidenceError, match=r"summary\.md was altered"):
        api.ship(made, str(lake))
    assert not lake.exists()


def test_strict_refuses_tier_draft_with_its_reasons(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", blocks=2)
    told = json.loads((made / "verdict.json").read_text())
    assert told["tier"] == "draft"
    with pytest.raises(RefusedError, match=r"tier draft") as refused:
        api.ship(made, str(tmp_path / "lake"), strict=True)
    assert told["tier_reasons"][0] in refused.value.message


def test_a_bundle_without_a_verdict_is_refused(tmp_path: Path) -> None:
    from bundle_world import parts

    whole = parts()
    made = write_bundle(tmp_path, BundleParts(family="f", run_id="1", source=whole.source))
    with pytest.raises(NoVerdictError):
        api.ship(made, str(tmp_path / "lake"))


def test_an_upload_that_broke_off_is_not_seen_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, lake = bundle(tmp_path / "a"), bundle(tmp_path / "b", "0002"), tmp_path / "lake"
    api.ship(first, str(lake))
    write, calls = put.write_table, []

    def breaks(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(put, "write_table", breaks)
    with pytest.raises(BackendError, match="broke off"):
        api.ship(second, str(lake))
    for table in ("campaigns", "arms", "pairs"):
        assert api.ask_lake(str(lake), f"SELECT DISTINCT campaign FROM {table}").rows == (("0001",),)
    monkeypatch.setattr(put, "write_table", write)
    went_on = api.ship(second, str(lake))
    assert (len(went_on.written), len(went_on.kept)) == (1, 2)
    assert api.ask_lake(str(lake), "SELECT count(*) FROM campaigns").rows == ((2,),)


def test_a_torn_object_is_named_and_written_again(tmp_path: Path) -> None:
    made, lake = bundle(tmp_path / "b"), tmp_path / "lake"
    whole = api.ship(made, str(lake))
    torn = Path(whole.written[0])
    torn.write_bytes(torn.read_bytes()[:100])
    with pytest.raises(EvidenceError, match="cannot be read"):
        api.ask_lake(str(lake), "guards")
    assert api.ship(made, str(lake)).written == (str(torn),)
    assert api.ask_lake(str(lake), "guards").rows


@pytest.mark.parametrize("end", ["cut", "no footer"])
def test_an_object_that_ends_in_any_way_is_named(end: str, tmp_path: Path) -> None:
    made, lake = bundle(tmp_path / "b"), tmp_path / "lake"
    torn = Path(api.ship(made, str(lake)).written[2])
    torn.write_bytes(torn.read_bytes()[:-9] if end == "cut" else b"PAR1" + bytes(50) + b"PAR1")
    with pytest.raises(EvidenceError, match="cannot be read"):
        api.ask_lake(str(lake), "latest")


def test_what_lies_beside_the_objects_is_nobodys_business(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    place = Path(api.ship(bundle(tmp_path / "b"), str(lake)).written[2]).parent
    for name in ("README.txt", "part-x.parquet", f"part-{'a' * 64}.parquet.part", f".part-{'a' * 64}.parquet.1f"):
        (place / name).write_bytes(b"something else")
    assert api.ask_lake(str(lake), "SELECT count(*) FROM campaigns").rows == ((1,),)


def test_many_publish_the_same_bundle_at_once(tmp_path: Path) -> None:
    made, lake = bundle(tmp_path / "b"), tmp_path / "lake"
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: api.ship(made, str(lake)), range(8)))
    assert len({one.address for one in sent}) == 1
    assert len(objects(lake)) == 3
    assert api.ask_lake(str(lake), "SELECT count(*) FROM campaigns").rows == ((1,),)


def test_a_lake_in_the_bundle_would_spoil_it(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    for to in (made, made / "lake", made / ".." / made.name / "x"):
        with pytest.raises(ConfigError, match="lies in the bundle"):
            api.ship(made, str(to))
    assert api.verify(made).ok


@pytest.mark.parametrize(("column", "value"), [("trials", 10**30), ("reason", 7), ("campaign", "\ud800")])
def test_a_value_that_no_column_holds_is_refused(column: str, value: object, tmp_path: Path) -> None:
    rows = rows_of(bundle(tmp_path / "b"))
    tables = {
        name: [row | {column: value} if column in row else row for row in some] for name, some in rows.tables.items()
    }
    with pytest.raises(EvidenceError, match="cannot hold"):
        put.put(replace(rows, tables=tables), places.open_place(str(tmp_path / "lake")))
    assert not list((tmp_path / "lake").glob("campaigns/**/*.parquet"))


def test_a_question_without_an_end_is_ended(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "LONGEST_S", 0.2)
    with pytest.raises(InputError, match="no answer within"):
        api.ask_lake(
            lake, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE hash(a.range + b.range) = 1"
        )


def campaigns(lake: Path) -> list[object]:
    return [row[0] for row in api.ask_lake(str(lake), "SELECT campaign FROM campaigns ORDER BY campaign").rows]


def test_a_snapshot_answers_as_the_objects_do_and_what_came_later_too(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for number in (1, 2):
        api.ship(bundle(tmp_path / "b", f"000{number}"), str(lake))
    before, told = objects(lake), {name: api.ask_lake(str(lake), name).rows for name in QUESTIONS}
    made = api.compact_lake(str(lake))
    assert (made.campaigns, made.added) == (2, 2)
    assert before.items() <= objects(lake).items(), "nothing is altered or deleted"
    assert {name: api.ask_lake(str(lake), name).rows for name in QUESTIONS} == told
    assert api.compact_lake(str(lake)).address is None, "nothing to do"
    api.ship(bundle(tmp_path / "b", "0003"), str(lake))
    assert campaigns(lake) == ["0001", "0002", "0003"]
    assert api.compact_lake(str(lake)).added == 1
    for path in before:
        (lake / path).unlink()
    assert campaigns(lake) == ["0001", "0002", "0003"], "the snapshot alone holds them"
    assert api.ask_lake(str(lake), "guards").rows


@pytest.mark.parametrize("damage", ["torn", "without its end", "half-written"])
def test_a_snapshot_that_is_not_whole_is_passed_over(damage: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    api.ship(bundle(tmp_path / "b"), str(lake))
    made = Path(str(api.compact_lake(str(lake)).address))
    if damage == "torn":
        (made / "arms.parquet").write_bytes(b"PAR1")
    else:
        (made / ("campaigns.parquet" if damage == "half-written" else "arms.parquet")).unlink()
    answer = api.ask_lake(str(lake), "SELECT count(*) FROM campaigns JOIN arms USING (manifest_sha256)")
    assert answer.rows == ((2,),)
    assert ["cannot be read" in note for note in answer.notes] == ([] if damage == "half-written" else [True])


def test_many_loose_campaigns_bring_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MANY_LOOSE", 0)
    lake = lake_of_one(tmp_path)
    assert "lake compact" in api.ask_lake(lake, "latest").notes[0]
    api.compact_lake(lake)
    assert api.ask_lake(lake, "latest").notes == ()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("three")
    for number in range(3):
        api.ship(bundle(folder / "b", f"000{number}"), str(folder / "lake"))
    return str(folder / "lake")


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_ready_question_is_answered(lake: str, name: str) -> None:
    answer = api.ask_lake(lake, name)
    assert answer.columns
    empty = {"losses", "decay", "positions"}  # none lost; these drafts have no digest and no counts by position
    assert bool(answer.rows) is (name not in empty)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY campaigns TO '{out}'",
        "ATTACH '{out}' AS other",
        "SET enable_external_access = true",
        "INSTALL httpfs; LOAD httpfs",
        "SELECT * FROM secret_frame",
        "SELEC 1",
        "SELECT content FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
    ],
)
def test_sql_reaches_the_three_tables_and_nothing_else(tmp_path: Path, lake: str, sql: str) -> None:
    secret_frame = pl.DataFrame({"x": [1]})  # noqa: F841  a variable of the caller is no table
    with pytest.raises(InputError, match="DuckDB refuses"):
        api.ask_lake(lake, sql.replace("{out}", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    rows = rows_of(bundle(tmp_path / "b"))
    path = put.part_path("campaigns", replace(rows, family="../../a=b/c%2F"))
    assert path.split("/")[:3] == ["campaigns", "schema=1", "family=..%2F..%2Fa%3Db%2Fc%252F"]
    put.put(replace(rows, family="../../a=b/c%2F"), places.open_place(str(tmp_path / "lake")))
    assert {path.name for path in (tmp_path / "lake").iterdir()} == {"campaigns", "arms", "pairs"}
    assert api.ask_lake(str(tmp_path / "lake"), "SELECT family FROM campaigns").rows == (("../../a=b/c%2F",),)


@pytest.mark.parametrize("family", ["__HIVE_DEFAULT_PARTITION__", ".hidden", "_delta_log", " ", "ü" * 30])
def test_a_family_is_read_back_as_it_was_named(tmp_path: Path, family: str) -> None:
    rows = rows_of(bundle(tmp_path / "b"))
    place = places.open_place(str(tmp_path / "lake"))
    put.put(replace(rows, family=family), place)
    assert put.put(replace(rows, family=family), place).written == ()
    assert api.ask_lake(str(tmp_path / "lake"), "SELECT family FROM campaigns").rows == ((family,),)
    api.compact_lake(str(tmp_path / "lake"))
    assert api.ask_lake(str(tmp_path / "lake"), "SELECT family FROM campaigns").rows == ((family,),)


def test_families_that_no_file_system_would_take_are_cut_and_stay_apart(tmp_path: Path) -> None:
    rows = rows_of(bundle(tmp_path / "b"))
    place = places.open_place(str(tmp_path / "lake"))
    for number, family in enumerate(("ü" * 300 + "a", "ü" * 300 + "b")):
        put.put(replace(rows, family=family, manifest_sha256=f"{number}" * 64), place)
    names = [row[0] for row in api.ask_lake(str(tmp_path / "lake"), "SELECT DISTINCT family FROM campaigns").rows]
    assert len(names) == 2
    assert all(name.startswith("ü" * 20) and len(name) < 100 for name in names)


def test_a_trial_at_no_time_of_a_calendar_is_refused(tmp_path: Path) -> None:
    made = parts()
    assert made.plan is not None
    late = [trial.model_copy(update={"started_unix_s": 1e18}) for trial in made.trials]
    made = replace(made, trials=late, decision=recompute(made.plan, late, list(made.facts)))
    with pytest.raises(EvidenceError, match="no time that a calendar holds"):
        rows_of(write_bundle(tmp_path, made))


def test_a_newer_version_of_the_tables_is_named_and_left_alone(tmp_path: Path) -> None:
    api.ship(bundle(tmp_path / "b"), str(tmp_path / "lake"))
    (tmp_path / "lake" / "campaigns" / "schema=2").mkdir()
    (tmp_path / "lake" / "campaigns" / "schema=2" / "part-x.parquet").write_bytes(b"something else")
    answer = api.ask_lake(str(tmp_path / "lake"), "SELECT count(*) FROM campaigns")
    assert answer.rows == ((1,),)
    assert answer.notes == ("schema=2 is of a newer version and was not read",)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s3://KEY:hidden77@bucket/x", ConfigError),
        ("s3://bucket/x?endpoint=evil", ConfigError),
        ("gs://bucket/x", ConfigError),
        ("s3://", ConfigError),
        ("file://elsewhere/x", ConfigError),
        ("file://", ConfigError),
        ("s3://[", ConfigError),
        ("file:///%00", ConfigError),
        ("s3://bu cket/x", ConfigError),
        ("s3://bucket/../x", ConfigError),
        ("~nobody-of-this-name/x", ConfigError),
        (" ", ConfigError),
    ],
)
def test_addresses_that_are_none(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        places.open_place(url)
    assert "hidden77" not in str(refused.value)


def test_a_lake_that_is_empty_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="holds no campaigns"):
        api.ask_lake(str(tmp_path / "none"), "latest")
    with pytest.raises(InputError, match="no SQL"):
        api.ask_lake(lake_of_one(tmp_path), "-- a remark")
    with pytest.raises(InputError, match="no ready question"):
        api.ask_lake(str(tmp_path / "none"), "lattest")
    with pytest.raises(PrerequisiteError, match="is full"), places.plainly("file:///x"):
        raise OSError(28, "No space left on device")
