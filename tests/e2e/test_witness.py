"""Each end compares what the other signed of its log with what it is shown later; by itself, at each new checkpoint."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from consilium.core.ids import digest
from consilium.governance import audit
from consilium.wire.envelope import Envelope
from consilium.wire.messages import Alarm, Checkpoint
from e2e.coordinator import Site, refusal
from e2e.federation import Federation, federation, study
from e2e.processes import until
from e2e.victim import Victim

NAMES = ("north", "south")
NOW = "2030-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("witness"), hospitals=NAMES) as made:
        yield made


def finished(made: Federation, name: str) -> None:
    made.until(made.start(made.approved(study(name, rounds=1))), "finished")


def compared(made: Federation) -> bool:
    """Whether each hospital has followed the coordinator's log up to the newest head that it keeps."""
    newest = "SELECT seq FROM marks ORDER BY id DESC LIMIT 1"
    base = "SELECT json_extract(value, '$.seq') FROM meta WHERE key = 'witness'"
    hospitals = made.hospitals.values()
    return all(h.journal(newest) and h.journal(newest) == h.journal(base) for h in hospitals)


def alarms(made: Federation) -> dict[str, list[str]]:
    told = made.owner.connection.get("/v1/sites")
    return {one["site"]: [alarm["why"] for alarm in one["alarms"]] for one in told}


def write_anew(path: Path) -> None:
    """A whole log with another word in its entries, in which every entry follows from the one before."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        head = audit.START
        for seq, data in database.execute("SELECT seq, entry FROM audit ORDER BY seq").fetchall():
            told = json.loads(data)
            at = datetime.fromisoformat(told["at"])
            entry = audit.append(head, kind=told["kind"], body={**told["body"], "altered": 1}, at=at)
            head = audit.head_of(entry.data)
            database.execute("UPDATE audit SET entry = ? WHERE seq = ?", (entry.data, seq))


@pytest.mark.long
def test_logs_that_grow_are_followed_and_ones_that_were_written_anew_are_found(made: Federation) -> None:
    finished(made, "first")
    finished(made, "second")
    until(lambda: compared(made), "both have followed the coordinator's log")
    stands = "SELECT count(*), sum(stands) FROM checkpoints"
    until(lambda: made.rows(stands) == [(4, 4)], "the coordinator has followed both")
    assert alarms(made) == {"north": [], "south": []}

    assert made.coordinator.stop() == 0
    write_anew(made.coordinator.home / "coordinator.sqlite")
    made.coordinator.start()
    north, south = (made.hospitals[name] for name in NAMES)
    assert south.process.stop() == 0
    write_anew(south.home / "journal.sqlite")
    south.process.start()
    finished(made, "third")
    until(lambda: alarms(made) == {"north": ["log-rewritten"], "south": ["log-rewritten"] * 2}, "all are told")
    for hospital in (north, south):
        (alarm,) = hospital.told("status")["alarms"]
        assert alarm["why"] == "log-rewritten" and "the coordinator's audit log contradicts" in alarm["text"]
        assert "alarm" in {json.loads(row[0])["kind"] for row in hospital.journal("SELECT entry FROM audit")}
    words = [one["text"] for site in made.owner.connection.get("/v1/sites") for one in site["alarms"]]
    assert sum("south's audit log contradicts what it signed" in text for text in words) == 1
    assert north.says("doctor")[0] == 0, "its own log is whole"

    for hospital in (north, south):
        assert len(hospital.told("acknowledge", "--person", "Vera")) == 1
        made.coordinator.admin.connection.post(f"/v1/sites/{hospital.name}/acknowledge", {})
    finished(made, "fourth")
    until(lambda: compared(made), "both follow it from there on")
    until(lambda: made.rows("SELECT count(*) FROM checkpoints") == [(8,)], "and the other way round")
    assert alarms(made) == {"north": [], "south": []}
    assert [hospital.told("status")["alarms"] for hospital in (north, south)] == [[], []]


@pytest.fixture(scope="module")
def site(victim: Victim) -> Site:
    return victim.coordinator.join("witness")


def grown(count: int, start: int = 0) -> tuple[list[audit.Head], list[str]]:
    heads, links = [audit.START], []
    for number in range(start, start + count):
        entry = audit.append(heads[-1], kind="t", body={"n": number}, at=datetime.min)
        heads.append(audit.head_of(entry.data))
        links.append(audit.link(entry.data))
    return heads, links


def mark(site: Site, head: audit.Head, since: int, links: list[str], **changes: Any) -> Checkpoint:
    values = {"log": site.name, "seq": head.seq, "head": head.digest, "at": NOW, "since": since, "links": links}
    return Checkpoint.model_validate({**values, **changes})


def shown(victim: Victim, name: str) -> list[str]:
    told = victim.coordinator.admin.connection.get("/v1/sites")
    return [alarm["why"] for one in told if one["site"] == name for alarm in one["alarms"]]


def test_a_site_cannot_shorten_rewrite_or_skip_its_log_unseen(victim: Victim, site: Site) -> None:
    heads, links = grown(9)
    others, their = grown(9, start=1)
    for since, until_ in ((0, 3), (3, 6), (0, 6)):  # once more, from the start: it says the same
        site.send(mark(site, heads[until_], since, links[since:until_]))
    assert shown(victim, site.name) == []
    for what, why in (
        (mark(site, heads[5], 3, links[3:5]), "log-went-back"),
        (mark(site, others[8], 0, their[:8]), "log-rewritten"),
        (mark(site, heads[8], 6, links[7:8]), "log-gap"),
        (mark(site, heads[9], 7, links[7:9]), "log-gap"),
    ):
        site.send(what)
        assert shown(victim, site.name) == [why]
        victim.coordinator.in_database("UPDATE alarms SET settled = 'test'")
    site.send(mark(site, heads[9], 6, links[6:9]))
    assert shown(victim, site.name) == [], "the true one still extends what stood"
    assert refusal(lambda: site.send(mark(site, heads[9], 6, links[6:9], log="other"))).code == "envelope-invalid"


def test_a_site_that_says_the_inbox_went_back_is_believed_only_where_it_did(victim: Victim, site: Site) -> None:
    text = "I take no messages"
    inbox = site.connection.get("/v1/inbox", {"after": 0})["items"]
    assert "newest" not in site.connection.get("/v1/inbox", {"after": len(inbox)})
    assert site.connection.get("/v1/inbox", {"after": 70})["newest"] == len(inbox)
    site.send(Alarm(why="inbox-went-back", text=text, number=70, last=audit.START.digest, at=NOW))
    site.send(Alarm(why="inbox-went-back", text=text, number=70, last=audit.START.digest, at=NOW))
    known = Envelope.parse(json.dumps(inbox[-1]["envelope"]).encode()).payload
    site.send(Alarm(why="inbox-rewritten", text=text, number=len(inbox), last=digest(known), at=NOW))
    assert shown(victim, site.name) == ["inbox-went-back"]
    admin = victim.coordinator.admin.connection
    assert admin.post(f"/v1/sites/{site.name}/reopen", {}) == {"site": site.name, "taken": 70, "known": len(inbox)}
    items = site.connection.get("/v1/inbox", {"after": 70})["items"]
    assert [item["seq"] for item in items[:1]] == [71]
    assert items[0]["envelope"]["payloadType"] == "application/vnd.consilium.reopened+json"
    assert shown(victim, site.name) == []
