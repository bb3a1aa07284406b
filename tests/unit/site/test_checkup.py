"""`site check` shows single patients to who asks at a terminal, or in a file of theirs, and nobody and nothing else."""

import io
import json
import logging
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.console.cli import app
from consilium.core.errors import DataUnusable
from consilium.core.study import Plan
from consilium.site.checkup import NAMED, _naming
from consilium.site.showing import concluded
from e2e.federation import study
from unit.site.test_desk import Site

PLANTED = "GEHEIM-4711"
VALUE = "3.14159265"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "north")
    made.put(Plan.of(study("sums", gate={})))
    table = made.mapping.parent / "table.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, f"{PLANTED},{VALUE},0.5,1"]) + "\n")
    (tmp_path / "keys.txt").write_text(f"{PLANTED}\np0\nnobody\n")
    yield made
    made.journal.close()


def said(site: Site, *words: str) -> int:
    keys = site.folder.home.parent / "keys.txt"
    mapping = ("--mapping", str(site.mapping), "--home", str(site.folder.home))
    return app.run(["site", "check", "sums", "--patients", str(keys), *mapping, *words])


def test_a_patient_is_in_the_file_of_who_asked_and_nowhere_else(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "mine.csv"
    assert said(site, "--tell", "--rows", "99", "--to", str(out)) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert f"{PLANTED},x,x,{VALUE},3.14159 1" in out.read_text() and f"{PLANTED},,,,takes part" in out.read_text()
    told = capsys.readouterr()
    assert "1 of the keys are in no row" in told.err
    assert site.journal.row("SELECT count(*) AS n FROM outbox")["n"] == 1, "the outcome is sent"  # type: ignore[index]
    kept = [path for path in site.folder.home.rglob("*") if path.is_file() and path.name != "table.csv"]
    texts = {str(path): path.read_bytes() for path in kept} | {"said": f"{told}{caplog.text}".encode()}
    assert len(kept) > 3 and not [path for path, text in texts.items() if b"GEHEIM" in text or b"3.1415" in text]
    assert said(site, "--to", str(out)) != 0 and "there is a file" in capsys.readouterr().err, "nothing is overwritten"


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_where_output_may_be_kept_in_a_log_no_patient_is_shown(
    site: Site, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(site, *words) != 0
    told = capsys.readouterr()
    assert "on a terminal alone" in told.err and PLANTED not in told.out + told.err


@pytest.mark.parametrize("written", [
    f"{PLANTED}\nM\u00fcller\n".encode("cp1252"), f"\ufeff{PLANTED}\r\nM\u00fcller\r\n".encode(),
    f"{PLANTED}\nM\u00fcller\n".encode("utf-16"),
], ids=["windows-1252", "with-a-mark", "utf-16"])  # fmt: skip
def test_keys_are_read_as_windows_writes_them_and_no_cell_of_the_file_is_a_formula(
    site: Site, tmp_path: Path, written: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys.txt").write_bytes(written)
    table = site.mapping.parent / "table.csv"
    table.write_text(f"{table.read_text()}M\u00fcller,=1+1,-0.5,1\n")
    assert said(site, "--to", str(tmp_path / "mine.csv")) == 0
    assert "are in no row" not in capsys.readouterr().err
    shown = (tmp_path / "mine.csv").read_text(encoding="utf-8")
    assert f"{PLANTED},x,x," in shown and ",'=1+1," in shown and ",=" not in shown and ",-0.5," in shown


@pytest.mark.parametrize(("to", "told"), [("-", "--to names a file"), ("nowhere/mine.csv", "there is no folder")])
def test_where_patients_cannot_be_written_nothing_is_looked_at_or_sent(
    site: Site, tmp_path: Path, to: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(site, "--tell", "--to", to) != 0 and told in capsys.readouterr().err
    assert site.journal.row("SELECT count(*) AS n FROM outbox")["n"] == 0  # type: ignore[index]
    assert not (tmp_path / "-").exists()


class Terminal(io.StringIO):
    """What a person sees."""

    def isatty(self) -> bool:
        return True


def test_files_are_named_on_a_terminal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple(f"/pacs/{PLANTED}-{number}\x1b[2J.dcm" for number in range(NAMED + 3))
    for terminal in (False, True):
        with pytest.raises(DataUnusable), _naming(terminal):
            raise DataUnusable("3 files", "look", which=names)
        said = capsys.readouterr().out
        assert said.count(PLANTED) == NAMED * terminal and "\x1b" not in said
    assert said.endswith("and 3 more\n")


def test_on_a_terminal_patients_are_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert said(site) == 0
    assert any(line.split()[:4] == [PLANTED, "x", "x", VALUE] for line in terminal.getvalue().splitlines())


def test_between_what_values_lie_is_shown_and_does_not_leave(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = ("--mapping", str(site.mapping), "--home", str(site.folder.home))
    assert app.run(["site", "check", "sums", "--json", "--tell", *mapping]) == 0
    spread = json.loads(capsys.readouterr().out)["features"][0]["spread"]
    assert spread["low"] < spread["median"] < spread["high"] and spread["against"] == "range -10 to 10"
    kept = site.journal.row("SELECT report, envelope FROM checks")
    assert kept is not None and b"median" not in bytes(kept["envelope"]) and "median" not in kept["report"]


def test_what_could_not_be_done_stands_in_the_last_line() -> None:
    assert concluded(True, 0) == "Ready for training."
    assert concluded(True, 1).startswith("Ready for training, but 1 check could not be done: do by hand what it says")
    assert concluded(True, 2).startswith("Ready for training, but 2 checks could not be done: do by hand what they say")
    assert concluded(False, 1).startswith("Not ready: mend what blocks. And 1 check could not be done")
