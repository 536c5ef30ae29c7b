"""The page without a browser: what it shows, who may act, what it answers to what it should refuse."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from watched import FIGURES, add_run, config, controlled, served, under_way

from draftsmith import api
from draftsmith.api.watching import Watch, watch
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.controller.journal import Journal
from draftsmith.web.app import make_app
from draftsmith.web.session import SESSION_S, read_token

TOKEN = "a-token-for-tests-only"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}\u202e"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    workspace = tmp_path / "tiny"
    served(workspace)
    add_run(workspace, "tiny-1", created=1.0)
    under_way(workspace)
    controlled(workspace)
    return workspace


def client(*places: Path, token: str | None = None) -> TestClient:
    watches = watch(config(places[0]), [str(place) for place in places])
    return TestClient(make_app(watches, token, ("testserver",)), follow_redirects=True)


def csrf(page: TestClient, address: str = "/models/tiny") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get(address).text)
    assert found is not None
    return found[1]


def signed_in(place: Path) -> TestClient:
    page = client(place, token=TOKEN)
    assert page.post("/login", data={"token": TOKEN}).status_code == 200
    return page


def test_every_page_shows_what_there_is(place: Path) -> None:
    page = client(place)
    assert "eagle3, 3 tokens, draft one" in page.get("/").text
    shown = page.get("/models/tiny").text
    for words in (
        "Waits for a yes: promote",
        "the candidate is faster",
        "2.60",
        "20.0 ms",
        "training, 40 of 100 steps",
        "tiny-1",
        "read-only",
    ):
        assert words in shown, words
    assert "secret-place" not in shown
    run = page.get("/models/tiny/runs/tiny-1").text
    assert "WIN" in run
    assert "faster by 21 %" in run
    beside = page.get("/models/tiny/compare", params={"a": "tiny-1", "b": "tiny-now"}).text
    assert "time per token, candidate@c4" in beside
    assert "16.50 ms" in beside


def test_the_same_as_json_without_places(place: Path) -> None:
    page = client(place)
    model = page.get("/api/models/tiny").json()
    assert model["progress"]["phase"] == "train"
    assert [run["run_id"] for run in model["runs"]] == ["tiny-now", "tiny-1"]
    assert str(place) not in page.get("/api/models/tiny").text
    assert str(place) not in page.get("/api/models/tiny/runs/tiny-1").text
    assert page.get("/api/models/none").json() == {"error": "there is no such model here"}
    assert set(page.get("/openapi.json").json()["paths"]) == {
        "/api/models",
        "/api/models/{slug}",
        "/api/models/{slug}/runs/{run_id}",
    }


def test_metrics_are_there_too(place: Path) -> None:
    page = client(place)
    for _ in range(2):  # what is counted is not counted twice
        assert 'draftsmith_controller_acts_total{act="adopt",model="tiny"} 1.0' in page.get("/metrics").text


def test_every_answer_forbids_scripts_from_elsewhere(place: Path) -> None:
    page = client(place)
    for address in ("/", "/models/tiny", "/login", "/static/page.js", "/api/models", "/nothing", "/models/none"):
        policy = page.get(address).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
    text = page.get("/models/tiny").text
    assert re.findall(r'(?:src|href)="(https?:)?//', text) == []
    assert re.findall(r"<script(?! src=\"/static/page.js\" defer>)", text) == []
    assert " style=" not in text
    assert " onclick" not in text


def test_a_report_runs_nothing(place: Path) -> None:
    report = place / "runs" / "tiny-1" / "bundle" / "x" / "y" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<h1>the report</h1>")
    answer = client(place).get("/models/tiny/runs/tiny-1/report")
    assert answer.text == "<h1>the report</h1>"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert client(place).get("/models/tiny/runs/tiny-now/report").status_code == 404


def test_hostile_names_are_text(tmp_path: Path) -> None:
    place = tmp_path / "tiny"
    served(place, target=f"/models/{EVIL.replace('/', '')}")
    add_run(
        place,
        "r1",
        created=1.0,
        headline=EVIL,
        target=EVIL,
        figures=FIGURES | {"reason": EVIL, "acceptance_length": {EVIL: 2.0}},
    )
    under = under_way(place, "r2", headline=EVIL)
    journal = controlled(place, why=EVIL)
    journal.append("paused", f"paused by an operator: {EVIL}")
    page = signed_in(place)
    for address in (
        "/",
        "/models/tiny",
        "/models/tiny/runs/r1",
        f"/models/tiny/runs/{under.record.run_id}",
        "/models/tiny/compare?a=r1&b=r2",
        "/models/%3Cscript%3E",
    ):
        text = page.get(address).text
        assert "<script>alert" not in text, address
        assert "<img src=x" not in text, address
        assert "\u202e" not in text, address
    assert "&lt;script&gt;alert(1)" in page.get("/models/tiny/runs/r1").text
    assert "{{7*7}}" in page.get("/models/tiny/runs/r1").text


@pytest.mark.parametrize(
    "run_id", ["..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "tiny-1%00", "a/b", "tiny-1/../tiny-now/report"]
)
def test_no_address_leads_out_of_the_workspace(place: Path, run_id: str) -> None:
    assert client(place).get(f"/models/tiny/runs/{run_id}").status_code in (
        200,
        404,
    )  # 200: the client went to /models/tiny
    assert "root:" not in client(place).get(f"/models/tiny/runs/{run_id}").text
    assert client(place).get(f"/models/tiny/runs/{run_id}/report").status_code == 404


def test_without_a_token_nobody_acts(place: Path) -> None:
    page = client(place)
    assert page.post("/login", data={"token": ""}).status_code == 403
    assert page.post("/models/tiny/acts/pause").status_code == 403
    assert Journal(place).memory().paused is None


def test_a_session_and_its_forms_are_needed(place: Path) -> None:
    page = client(place, token=TOKEN)
    assert page.post("/models/tiny/acts/pause").status_code == 403
    assert page.post("/login", data={"token": TOKEN + "x"}).status_code == 403
    assert page.post("/login", data={"token": TOKEN}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert page.post("/login", data={"token": TOKEN}).status_code == 200
    assert page.post("/models/tiny/acts/pause").status_code == 403
    assert page.post("/models/tiny/acts/pause", data={"csrf": "guessed"}).status_code == 403
    word = csrf(page)
    assert (
        page.post("/models/tiny/acts/pause", data={"csrf": word}, headers={"sec-fetch-site": "cross-site"}).status_code
        == 403
    )
    assert Journal(place).memory().paused is None
    cookie = page.cookies["draftsmith"]
    other = client(place, token=TOKEN)  # another process has another key
    other.cookies.set("draftsmith", cookie)
    assert other.post("/models/tiny/acts/pause", data={"csrf": word}).status_code == 403
    page.cookies.set("draftsmith", cookie[:-3] + "abc", domain="testserver.local")
    assert page.post("/models/tiny/acts/pause", data={"csrf": word}).status_code == 403


def test_a_session_that_expired_acts_no_more(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = signed_in(place)
    word = csrf(page)
    now = time.time()
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + SESSION_S + 60)
    assert page.post("/models/tiny/acts/pause", data={"csrf": word}).status_code == 403
    assert Journal(place).memory().paused is None


def test_few_attempts_a_minute(place: Path) -> None:
    page = client(place, token=TOKEN)
    answers = [page.post("/login", data={"token": f"wrong-{n}"}).text for n in range(12)]
    assert "that is not the token" in answers[0]
    assert "too many attempts" in answers[-1]
    assert "too many attempts" in page.post("/login", data={"token": TOKEN}).text


def test_an_operator_pauses_resumes_asks_and_approves_once(place: Path) -> None:
    page = signed_in(place)
    word = csrf(page)
    shown = page.post("/models/tiny/acts/pause", data={"csrf": word, "because": "release day\x00\u202e"}).text
    assert "paused by an operator: release day" in shown
    assert Journal(place).memory().paused == "paused by an operator: release day"
    page.post("/models/tiny/acts/resume", data={"csrf": word})
    page.post("/models/tiny/acts/request", data={"csrf": word, "because": "new product"})
    memory = Journal(place).memory()
    assert memory.paused is None
    assert memory.requested == "an operator asked for a run: new product"
    stale = page.post("/models/tiny/acts/approve", data={"csrf": word, "key": "another"}).text
    assert "not proposed any more" in stale
    assert (
        "an operator said yes to promote"
        in page.post("/models/tiny/acts/approve", data={"csrf": word, "key": "k1"}).text
    )
    assert "not proposed any more" in page.post("/models/tiny/acts/approve", data={"csrf": word, "key": "k1"}).text
    assert Journal(place).memory().approved == ("k1",)
    assert "rolled back: no speculation serves" in page.post("/models/tiny/acts/rollback", data={"csrf": word}).text
    assert "refused: there is no promotion" in page.post("/models/tiny/acts/rollback", data={"csrf": word}).text
    assert page.post("/models/tiny/acts/format-disk", data={"csrf": word}).status_code == 404


def test_another_name_for_this_machine_is_refused(place: Path) -> None:
    assert client(place).get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "damage",
    ["service-state.json", "controller/journal/000002.json", "runs/tiny-1/journal/000003.json", "controller/look.json"],
)
def test_a_damaged_file_is_named_and_the_page_stays(place: Path, damage: str) -> None:
    (place / damage).write_text('{"schema": "specdec_service_v99"}')
    for address in ("/", "/models/tiny"):
        answer = client(place).get(address)
        assert answer.status_code == 200
        only_there = damage.startswith("runs/") and address == "/"  # of an older run the overview shows nothing
        assert "Could not be read" in answer.text or damage.endswith("look.json") or only_there
    assert client(place).get("/models/tiny/runs/tiny-1").status_code in (200, 404)


STATE = '{"schema":"specdec_service_v1","experiment_id":"x","target":"/m","standing_config":%s,"history":[%s]}'
PROGRESS = '{"stage":"x","done":%s,"total":%s,"started_unix_s":0,"updated_unix_s":%s}'
FAR = '{"run_id":"far","key":"k","target":"/m","profile":[],"config":{},"created_unix_s":%s}'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("service-state.json", STATE % ("null", '{"at_unix_s":1e300,"event":"x"}')),
        ("service-state.json", STATE % ('{"method":["a"],"model":{"x":1}}', '{"at_unix_s":NaN,"event":"x"}')),
        ("runs/far/run.json", FAR % "1e308"),
        ("runs/far/run.json", FAR % "NaN"),
        ("runs/tiny-now/phases/train/progress.json", PROGRESS % ("NaN", "NaN", "1e308")),
        ("runs/tiny-now/phases/train/progress.json", PROGRESS % ("1e400", "1", "0")),
    ],
)
def test_figures_that_are_none_are_shown_as_such(place: Path, file: str, text: str) -> None:
    (place / file).parent.mkdir(exist_ok=True)
    (place / file).write_text(text)
    page = client(place)
    for address in ("/", "/models/tiny", "/models/tiny/runs/tiny-now", "/metrics"):
        assert page.get(address).status_code == 200, address
    assert page.get("/api/models").json()[0]["slug"] == "tiny"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("effect", {"act": {"kind": "of-the-future"}}),
        ("effect", {"act": "words"}),
        ("effect", {}),
        ("state", {}),
        ("state", {"state": "beyond"}),
        ("approved", {}),
        ("started", {"mode": 5}),
        ("noted", {"act": [1]}),
    ],
)
def test_an_event_of_a_newer_version_is_named_and_the_page_stays(
    place: Path, kind: str, data: dict[str, object]
) -> None:
    number = len(list((place / "controller" / "journal").glob("*.json"))) + 1
    event = {"number": number, "at_unix_s": 1e300, "kind": kind, "sentence": "x", "data": data}
    (place / "controller" / "journal" / f"{number:06}.json").write_text(json.dumps(event))
    page = client(place)
    for address in ("/", "/models/tiny"):
        shown = page.get(address)
        assert shown.status_code == 200
        assert ("this version does not understand" in shown.text) is (kind != "noted")
    readable = 'draftsmith_workspace_readable{model="tiny"} ' + ("1.0" if kind == "noted" else "0.0")
    assert readable in page.get("/metrics").text


def test_a_journal_that_was_moved_away_is_not_shown_any_more(place: Path) -> None:
    page = client(place)
    assert "the candidate is faster" in page.get("/models/tiny").text
    adopted = 'draftsmith_controller_acts_total{act="adopt",model="tiny"}'
    assert f"{adopted} 1.0" in page.get("/metrics").text
    (place / "controller").rename(place / "before")
    assert "no controller yet" in page.get("/models/tiny").text
    page.get("/metrics")
    controlled(place, why="it began anew")
    torn = place / "controller" / "journal" / "000004.json"
    torn.write_text("{")
    page.get("/metrics")
    torn.unlink()  # what was counted before is not counted again
    shown = page.get("/models/tiny").text
    assert "it began anew" in shown
    assert "the candidate is faster" not in shown
    assert f"{adopted} 2.0" in page.get("/metrics").text


def test_what_nobody_foresaw_is_a_page_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("secret-place")

    monkeypatch.setattr(Watch, "model", breaks)
    app = make_app(watch(config(place), [str(place)]), None, ("testserver",))
    page = TestClient(app, raise_server_exceptions=False)
    shown = page.get("/models/tiny")
    assert (shown.status_code, "the log of the server says why" in shown.text) == (500, True)
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert page.get("/api/models").json() == {
        "error": "this could not be shown (RuntimeError); the log of the server says why"
    }
    assert "secret-place" not in shown.text


def test_what_makes_no_sense_is_said_in_the_same_way(place: Path) -> None:
    page = client(place)
    asked = page.get("/models/tiny?page=many")
    assert asked.status_code == 422
    assert "page: Input should be a valid integer" in asked.text
    assert page.get("/api/models/tiny?page=many").json()["error"].startswith("page: ")
    assert page.post("/login", files={"token": ("x", b"abc")}).status_code == 422


def test_two_who_answer_at_once_answer_once(place: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: answered(place, n), range(8)))
    assert sorted(told) == ["not proposed any more"] * 7 + ["said"]
    assert [event.kind for event in Journal(place).events()].count("approved") == 1


def answered(place: Path, number: int) -> str:
    try:
        api.answer_proposal(config(place), True, f"operator {number}", "k1")
    except RefusedError as refused:
        return "not proposed any more" if "not proposed any more" in refused.message else refused.message
    return "said"


def test_the_api_has_a_page_for_people(place: Path) -> None:
    shown = client(place).get("/api").text
    for words in (
        "GET /api/models/{slug}/runs/{run_id}",
        "Paths of the disk are left out",
        'id="VerdictView"',
        "integer, in the query, optional",
    ):
        assert words in shown, words


def test_a_token_file_is_private_and_long(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(InputError, match="cannot be read"):
        read_token(path)
    path.write_text(TOKEN)
    path.chmod(0o644)
    with pytest.raises(InputError, match="others can read"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.write_text("short")
    with pytest.raises(InputError, match="fewer than"):
        read_token(path)


def test_runs_are_paged_and_a_second_look_reads_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tiny"
    for n in range(60):
        folder = place / "runs" / f"r{n:02}"
        folder.mkdir(parents=True)
        record = f'{{"run_id":"r{n:02}","key":"k","target":"/m","profile":[],"config":{{}},"created_unix_s":{n}}}'
        (folder / "run.json").write_text(record)
    page = client(place)
    first = page.get("/models/tiny").text
    assert "page 1 of 3" in first
    assert "r59" in first
    assert "r34" not in first
    assert "r09" in page.get("/models/tiny?page=3").text
    assert "no run on this page" in page.get("/models/tiny?page=99").text
    assert page.get("/models/tiny?page=-5").status_code == 200
    one = Watch(config(place), "tiny")
    one.model(shown=25)
    read: list[str] = []
    monkeypatch.setattr("draftsmith.api.watching.run_view", lambda run: read.append(run.folder.name))
    monkeypatch.setattr("draftsmith.api.watching.head_of", lambda folder: read.append(folder.name))
    began = time.perf_counter()
    assert one.model(shown=25).runs_total == 60
    assert read == []
    assert time.perf_counter() - began < 1.0
