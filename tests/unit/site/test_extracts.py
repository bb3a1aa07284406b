"""What was fetched for a study goes with what it was for, and the audit log says so."""

import json
import os
import signal
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consilium import studyfile
from consilium.api import freeze
from consilium.console.cli import app
from consilium.core.errors import DataUnusable
from consilium.core.study import Plan
from consilium.data.extracts import INDEX, held
from consilium.durable import own
from consilium.site import extracts, tables
from e2e.federation import study
from unit.site.test_desk import NOW, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def offered(site: Site, name: str) -> Plan:
    plan, _ = freeze(study(name))
    site.put(plan)
    place = site.folder.extracts / name
    with held(place, 1) as extract:
        (extract.new / "Patient.ndjson").write_text("SECRET-NAME")
        extract.put("of", [extract.new / "Patient.ndjson"], NOW)
    os.utime(place / INDEX, (NOW.timestamp(), NOW.timestamp()))
    return plan


def removals(site: Site) -> list[dict[str, Any]]:
    entries = [json.loads(entry) for entry in site.journal.entries()]
    return [entry["body"] for entry in entries if entry["kind"] == "extract-removed"]


def run(site: Site, plan: Plan, number: int, status: str) -> None:
    with site.journal.write() as tx:
        tx.do(
            "INSERT INTO tasks (seq, plan, run, round, kind, payload, status) VALUES (?, ?, ?, 1, 'TRAIN', x'', ?)",
            number, plan.digest, f"{plan.study.name}-{number}", status,
        )  # fmt: skip


@pytest.mark.parametrize("word", ["revoked", "declined"])
def test_it_goes_with_the_approval(site: Site, word: str) -> None:
    offered(site, "sums"), offered(site, "other")
    site.approve("sums")
    if word == "revoked":
        site.desk.revoke("sums", "Vera", "enough", NOW)
    else:
        site.desk.decline("sums", "Vera", "enough", NOW)
    assert [path.name for path in site.folder.extracts.iterdir()] == ["other"]
    (told,) = removals(site)
    assert (told["study"], told["why"], told["files"]) == ("sums", word, 3) and told["bytes"] > 0
    assert told["index"].startswith("sha256:") and "SECRET" not in json.dumps(told)


def test_it_goes_with_the_last_run_that_is_on(site: Site) -> None:
    plan = offered(site, "sums")
    site.approve("sums")
    run(site, plan, 1, "done")
    run(site, plan, 2, "todo")
    extracts.run_ended(site.folder, site.journal, "sums-1", NOW)
    assert (site.folder.extracts / "sums" / INDEX).exists() and removals(site) == []
    extracts.run_ended(site.folder, site.journal, "sums-2", NOW)
    assert not (site.folder.extracts / "sums").exists()
    assert [one["why"] for one in removals(site)] == ["run-ended"]
    extracts.run_ended(site.folder, site.journal, "sums-2", NOW)
    assert len(removals(site)) == 1


def test_without_an_approval_it_stays_for_a_day(site: Site) -> None:
    offered(site, "sums"), offered(site, "other")
    site.approve("sums")
    extracts.sweep(site.folder, site.journal, NOW + timedelta(hours=23))
    assert removals(site) == []
    extracts.sweep(site.folder, site.journal, NOW + timedelta(hours=25))
    assert [(one["study"], one["why"]) for one in removals(site)] == [("other", "not-approved")]
    extracts.sweep(site.folder, site.journal, NOW + timedelta(days=800))  # the approval has expired
    assert [one["study"] for one in removals(site)] == ["other", "sums"]
    assert not list(site.folder.extracts.iterdir())


@pytest.mark.parametrize("kind", ["check", "reading"])
def test_what_a_mere_check_fetched_goes_when_its_process_is_ended(site: Site, kind: str) -> None:
    """By SIGTERM at once; one that was killed leaves it in the site's folder, where it is found."""
    places: list[Path] = []
    other = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever runs the tests may have one of its own
    with (
        pytest.raises(SystemExit, match="143"),
        extracts.passing(site.folder) if kind == "check" else nullcontext() as place,
        held(place, 1) as extract,
    ):
        places.append(extract.folder)
        with own(extract.new / "Patient.ndjson") as file:
            file.write(b"SECRET-NAME")
        assert (extract.new / "Patient.ndjson").stat().st_mode & 0o777 == 0o600
        assert (extract.folder.parent == site.folder.extracts) == (kind == "check")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert not places[0].exists() and signal.signal(signal.SIGTERM, other) == signal.SIG_DFL


def test_a_check_by_a_study_file_fetches_into_the_sites_folder(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[Path]()

    def checked(study: Any, mapping: Path, place: Path, look: Any) -> None:
        seen.append(place)
        raise DataUnusable("as far as that", "and no further")

    monkeypatch.setattr(tables, "check", checked)
    (site.folder.home / "study.yaml").write_text(studyfile.template("sums"))
    (site.folder.home / "m.yaml").write_text("mapping: 1")
    files = ["--study-file", str(site.folder.home / "study.yaml"), "--mapping", str(site.folder.home / "m.yaml")]
    assert app.run(["site", "check", *files, "--home", str(site.folder.home)]) != 0
    (place,) = seen
    assert place.parent == site.folder.extracts and not place.exists()


def test_halves_that_hold_who_opted_out_go_as_soon_as_nobody_fetches_on(site: Site) -> None:
    offered(site, "sums")
    site.approve("sums")
    with held(site.folder.extracts / "sums", 1) as extract:
        extract.unfiltered()
        (extract.new / "output-0.part").write_text("SECRET-NAME")
        extracts.sweep(site.folder, site.journal, NOW)
        assert (extract.new / "output-0.part").exists(), "another process is at it"
    extracts.sweep(site.folder, site.journal, NOW)
    assert not list(extract.new.iterdir()) and (extract.folder / INDEX).exists() and removals(site) == []


def test_a_removal_that_was_cut_is_found_and_told_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    offered(site, "sums")

    def killed(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(extracts.shutil, "rmtree", killed)
        extracts.sweep(site.folder, site.journal, NOW + timedelta(days=2))
    extracts.sweep(site.folder, site.journal, NOW + timedelta(days=2))
    assert len(removals(site)) == 2 and not list(site.folder.extracts.iterdir())
