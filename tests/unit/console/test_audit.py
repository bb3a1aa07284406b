"""`audit verify` finds any edited, removed, repeated or reordered entry, and what the other end saw and is missing."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consilium.console.cli import app
from consilium.coordinator.app import make_services
from consilium.coordinator.home import load
from consilium.governance import audit as chain
from consilium.store.database import Transaction
from consilium.store.schema import audit, inbox, sites
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint, Offer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Json = dict[str, Any]


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.create(tmp_path / "identity.key")


def entries_of(count: int) -> list[str]:
    head, found = chain.START, []
    for number in range(count):
        entry = chain.append(head, kind="test", body={"number": number}, at=NOW)
        head = chain.head_of(entry.data)
        found.append(entry.data.decode())
    return found


def mark(entries: list[str], seq: int, identity: Identity) -> Json:
    head = chain.head_of(entries[seq - 1].encode())
    message = Checkpoint(log="coordinator", seq=seq, head=head.digest, at=NOW)
    sealed: Json = json.loads(seal(Checkpoint.TYPE, message.encode(), identity))
    return sealed


@pytest.fixture
def log(identity: Identity) -> Json:
    entries = entries_of(6)
    return {
        "log": "coordinator",
        "key": identity.public,
        "entries": entries,
        "checkpoints": [mark(entries, 6, identity)],
        "kept": [],
    }


def verify(folder: Path, log: Json, *more: str) -> int:
    path = folder / "audit.json"
    path.write_text(json.dumps(log))
    return app.run(["audit", "verify", "--file", str(path), "--json", *more])


def test_a_whole_log_is_intact(tmp_path: Path, log: Json, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path, log) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["intact"] and said["entries"] == 6 and said["checkpoints"] == 1


def edit(log: Json) -> None:
    log["entries"][2] = log["entries"][2].replace('"number":2', '"number":7')


def remove(log: Json) -> None:
    del log["entries"][2]


def reorder(log: Json) -> None:
    log["entries"][2:4] = reversed(log["entries"][2:4])


def repeat(log: Json) -> None:
    log["entries"].insert(2, log["entries"][2])


def shorten(log: Json) -> None:
    log["entries"].pop()


def rewrite(log: Json) -> None:
    head = chain.START
    for index, old in enumerate(list(log["entries"])):
        body = json.loads(old)["body"]
        entry = chain.append(head, kind="test", body={**body, "forged": True}, at=NOW)
        head = chain.head_of(entry.data)
        log["entries"][index] = entry.data.decode()


def forge(log: Json) -> None:
    log["checkpoints"][0]["payload"] = log["checkpoints"][0]["payload"][:-8] + "AAAAAAA="


@pytest.mark.parametrize("alter", [edit, remove, reorder, repeat, shorten, rewrite, forge])
def test_every_alteration_ends_with_1(
    tmp_path: Path, log: Json, alter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copy.deepcopy(log)
    alter(log)
    assert log != before
    assert verify(tmp_path, log) == 1
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "audit-broken"


def test_what_the_other_end_saw_must_be_there(tmp_path: Path, log: Json, identity: Identity) -> None:
    other = {"log": "north", "key": Identity.create(tmp_path / "n").public, "entries": [], "checkpoints": []}
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**other, "kept": [mark(log["entries"], 4, identity)]}))
    assert verify(tmp_path, log, "--against", str(path)) == 0
    cut = {**log, "entries": log["entries"][:3], "checkpoints": [mark(log["entries"], 3, identity)]}
    assert verify(tmp_path, cut) == 0, "a log that was cut is whole in itself"
    assert verify(tmp_path, cut, "--against", str(path)) == 1


def test_a_log_written_anew_under_another_key_does_not_pass_for_one_of_which_nothing_was_kept(
    tmp_path: Path, log: Json, identity: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its owner makes a key and signs it all once more: what the other end kept is signed by the key of before."""
    other = {"log": "north", "key": Identity.create(tmp_path / "n").public, "entries": [], "checkpoints": []}
    path, another = tmp_path / "other.json", Identity.create(tmp_path / "another.key")
    path.write_text(json.dumps({**other, "kept": [mark(log["entries"], 4, identity)]}))
    rewrite(log)
    forged = {**log, "key": another.public, "checkpoints": [mark(log["entries"], 6, another)]}
    assert verify(tmp_path, forged) == 0, "it is whole in itself, and its key is shown to be compared"
    capsys.readouterr()
    assert verify(tmp_path, forged, "--against", str(path)) == 1
    assert "by another key" in json.loads(capsys.readouterr().err)["error"]["message"]
    assert verify(tmp_path, {**forged, "log": "south"}, "--against", str(path)) == 0, "that is of another's log"


def test_how_many_entries_nobody_signed_yet_is_said(
    tmp_path: Path, log: Json, identity: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest of them can be written anew by whoever has the log: `intact` alone would promise too much."""
    for newest in (6, 4):
        log["checkpoints"] = [mark(log["entries"], 2, identity), mark(log["entries"], newest, identity)]
        assert verify(tmp_path, log) == 0
        assert json.loads(capsys.readouterr().out)["beyond"] == 6 - newest
    assert app.run(["audit", "verify", "--file", str(tmp_path / "audit.json")]) == 0
    assert "2 of the entries came after the newest signed head" in capsys.readouterr().out
    assert verify(tmp_path, {**log, "checkpoints": []}) == 0
    assert json.loads(capsys.readouterr().out)["beyond"] == 6


@pytest.mark.parametrize("marked", [0, 3])
def test_of_a_coordinators_folder_the_heads_count_that_it_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], marked: int
) -> None:
    home = tmp_path / "coordinator"
    assert app.run(["coordinator", "init", "--home", str(home), "--url", "https://127.0.0.1:9443"]) == 0
    services, entries = make_services(load(home)), entries_of(5)
    envelope = seal(Offer.TYPE, b"{}", services.identity)
    if marked:
        envelope = json.dumps(mark(entries, marked, services.identity)).encode()

    def fill(tx: Transaction) -> None:
        for number, entry in enumerate(entries):
            tx.put(audit, seq=number + 1, entry=entry.encode())
        about = {"public_key": "", "about": "", "since": NOW, "last_seen": 0.0, "activity": ""}
        tx.put(sites, site="north", state="admitted", **about)
        tx.put(inbox, site="north", seq=1, digest="", envelope=envelope)

    services.database.run_here(fill)
    services.database.close()
    capsys.readouterr()
    assert app.run(["audit", "verify", "--home", str(home), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["checkpoints"], said["beyond"]) == (int(bool(marked)), 5 - marked)


def test_another_key_than_the_known_one_is_refused(tmp_path: Path, log: Json) -> None:
    assert verify(tmp_path, log, "--key", log["key"]) == 0
    assert verify(tmp_path, log, "--key", Identity.create(tmp_path / "n").public) == 1


def test_a_file_that_is_no_log_is_said(tmp_path: Path) -> None:
    assert verify(tmp_path, {"entries": []}) == 5
    assert app.run(["audit", "verify"]) == 2


@pytest.mark.parametrize("text", ["{", "[]", "{}", "7"])
def test_a_site_whose_name_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    home = tmp_path / "site"
    assert app.run(["site", "init", "--home", str(home)]) == 0
    (home / "site.json").write_text(text)
    assert app.run(["audit", "verify", "--home", str(home)]) == 5
    assert "site.json is damaged" in capsys.readouterr().err


def test_who_took_part_is_told_offline_of_an_intact_log_alone(
    tmp_path: Path, log: Json, identity: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    head, entries = chain.START, []
    told: list[tuple[str, Json]] = [
        ("study", {"study": "heart", "plan": "sha256:0", "by": "nora"}),
        *(("decision", {"site": site, "study": "heart", "plan": "sha256:0", "decision": "approve", "person": "Vera\n"})
          for site in ("basel", "va")),
        ("run", {"run": "heart-1", "plan": "sha256:0", "by": "nora"}),
        *((kind, {"run": "heart-1", "round": number, **body}) for number in (1, 2, 3) for kind, body in (
            ("round-opened", {"roster": ["basel", "va"]}),
            ("round-closed", {"took_part": ["basel", "va"][: 1 + (number == 1)]}),
        )),
        ("run-ended", {"run": "heart-1", "status": "finished", "reason": ""}),
    ]  # fmt: skip
    for kind, body in told:
        entry = chain.append(head, kind=kind, body=body, at=NOW)
        head = entry.head
        entries.append(entry.data.decode())
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({**log, "entries": entries, "checkpoints": [mark(entries, 5, identity)]}))
    asks = ["audit", "participation", "--file", str(path)]
    assert app.run(asks) == 0
    said = capsys.readouterr().out.splitlines()
    assert "  basel: approve 2026-01-02 03:04 UTC by Vera " in said
    assert "    basel: in 3 rounds (1-3)" in said
    assert any(line.startswith("    va: in 1 round (1); not in 2-3, since 2026-01-02 03:04 UTC: ") for line in said)
    assert app.run([*asks, "--study", "heart", "--json"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert [one["part_of"] for one in study["runs"][0]["hospitals"]] == [[1, 2, 3], [1]]
    assert app.run([*asks, "--study", "lung"]) == 5
    assert "is the coordinator's word" in said[-1] and "audit verify --against" in said[-1]
    for odd in ({"run": ["heart-1"]}, {"run": "heart-1", "round": "1", "took_part": ["va"]}):
        bad = chain.append(head, kind="round-closed", body=odd, at=NOW)
        path.write_text(json.dumps({**log, "entries": [*entries, bad.data.decode()], "checkpoints": []}))
        assert app.run(asks) == 5 and "read otherwise" in capsys.readouterr().err
    moving = "heart\x1b]0;owned\x07\n  va: approve\x9b2J"
    bad = chain.append(head, kind="study", body={"study": moving, "plan": moving, "by": moving}, at=NOW)
    path.write_text(json.dumps({**log, "entries": [*entries, bad.data.decode()], "checkpoints": []}))
    assert app.run(asks) == 0
    shown = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in shown) and shown.count("\n  va: approve") == 1
    path.write_text(json.dumps({**log, "entries": entries[:3] + entries[4:]}))
    assert app.run(asks) == 1, "of a log that was altered nothing is told"
    path.write_text(json.dumps({**log, "log": "basel"}))
    assert app.run(asks) == 5 and "log of basel" in capsys.readouterr().err
