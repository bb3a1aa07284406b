"""The command line: one sentence per error, JSON with --json, and the exit codes that are documented."""

import io
import json
from pathlib import Path

import click
import pytest

from consilium.console.cli import app, output
from consilium.core import errors
from consilium.number import Number


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONSILIUM_URL", "CONSILIUM_TOKEN", "CONSILIUM_CA", "CONSILIUM_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    return tmp_path


def test_every_error_has_a_documented_exit_code() -> None:
    for kind in errors.every().values():
        code = app.exit_code(kind("what", "what next"))
        assert code in app.EXIT_CODES and code != 0, kind


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.AuditBroken, 1),
        (errors.Refused, 3),
        (errors.Unauthenticated, 3),
        (errors.Unavailable, 4),
        (errors.StudyInvalid, 5),
        (errors.Equivocation, 6),
    ],
)
def test_exit_codes_tell_errors_apart(kind: type[errors.ConsiliumError], code: int) -> None:
    assert app.exit_code(kind("x")) == code


def test_a_good_command_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"group", "name", "object", "package"} <= listed[0].keys()
    assert ("strategies", "fedavg") in {(row["group"], row["name"]) for row in listed}


def test_no_number_of_a_command_is_nan_or_without_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    """All commands are walked: a quota of nan GB refused every upload, and nobody was told why."""
    waiting, asked = [((), app.root)], 0
    while waiting:
        words, command = waiting.pop()
        context = click.Context(command)
        if isinstance(command, click.Group):
            found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
            waiting += [((*words, name), one) for name, one in found if one is not None]
        for one in command.params:
            if not isinstance(one.type, click.types.FloatParamType | click.types.IntParamType):
                continue
            assert isinstance(one.type, Number | click.IntRange) and one.type.min is not None, (words, one.name)
            assert one.type.min >= 0
            for given in ("nan", "-1", "inf", "-inf", "1e999"):
                asked += 1
                with pytest.raises(click.BadParameter):
                    one.type.convert(given, one, context)
    assert asked > 50
    assert app.run(["coordinator", "init", "--url", "https://a.example:1", "--quota-gb", "nan"]) == 2
    assert "--quota-gb" in capsys.readouterr().err


def test_a_mistyped_command_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["study", "validate", "--no-such-option"]) == 2
    assert app.run(["no-such-command"]) == 2


def test_who_is_not_logged_in_is_told_how_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["study", "list"]) == 3
    told = capsys.readouterr()
    assert told.out == "" and "consilium login" in told.err and "Traceback" not in told.err


def test_with_json_an_error_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["study", "list", "--json"]) == 3
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "unauthenticated" and error["remedy"]


@pytest.mark.parametrize(
    ("words", "says", "helps"),
    [
        (["study", "watch", "--json"], "Missing argument", "consilium study watch"),
        (["study", "list", "--json", "--no-such"], "--no-such", "consilium study list"),
        (["no-such-command", "--json"], "no-such-command", "consilium"),
        (["study", "stop", "x", "--reason", " ", "--json"], "say why", "consilium study stop"),
    ],
)
def test_with_json_an_error_of_usage_is_json(
    words: list[str], says: str, helps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(words) == 2
    told = capsys.readouterr()
    error = json.loads(told.err)["error"]
    assert told.out == "" and error["code"] == "usage"
    assert says in error["message"] and error["remedy"] == f"read `{helps} --help`"


class Listing:
    """A federation with one hospital, last heard of at the beginning of time."""

    def sites(self) -> list[dict[str, object]]:
        return [{"site": "north", "state": "pending", "fingerprint": "acorn owl", "last_seen": 0.0}]


def test_when_a_hospital_was_last_seen_is_a_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consilium.console.cli.people.federation", Listing)
    assert app.run(["sites", "list"]) == 0
    assert "1970-01-01 00:00 UTC" in capsys.readouterr().out
    assert app.run(["sites", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["last_seen"] == 0.0


def test_nobody_is_asked_to_compare_the_fingerprint_of_who_has_not_joined(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consilium.console.cli.people.federation", Listing)
    assert app.run(["sites", "admit", "nosuch"]) == 5
    said = capsys.readouterr().err
    assert "no hospital has joined as nosuch" in said and "Fingerprint" not in said


def test_who_hears_other_words_is_told_what_that_may_be_and_admits_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consilium.console.cli.people.federation", Listing)  # nothing can be posted to it
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert app.run(["sites", "admit", "north"]) == 3
    said = capsys.readouterr().err
    assert "north is not admitted" in said and "consilium sites remove north" in said and "Interrupted" not in said


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("consilium.console.cli.plugins.listed", interrupted)
    assert app.run(["plugins"]) == 130


def test_an_unreachable_coordinator_ends_with_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONSILIUM_URL", "https://127.0.0.1:9")
    monkeypatch.setenv("CONSILIUM_TOKEN", "x" * 20)
    assert app.run(["study", "list"]) == 4


def test_groups_are_imported_only_when_asked_for() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from consilium.console.cli import app; app.run(['plugins', '--json']); "
        "sys.exit(any(name.startswith(('consilium.coordinator', 'consilium.site', 'consilium.simulation', 'torch')) "
        "for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_an_agent_begins_without_what_runs_threads_of_its_own() -> None:
    """Its children are forked: what has threads would end them, and no process with two is confined."""
    import subprocess
    import sys

    code = (
        "import sys, consilium.site.agent, consilium.site.cli, consilium.coordinator.app; "
        "sys.exit(any(name in sys.modules for name in ('duckdb', 'pyarrow', 'torch', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_what_cannot_be_written_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["study", "new", str(tmp_path / "no" / "such" / "study.yaml")]) == 5
    told = capsys.readouterr().err
    assert "study.yaml: No such file or directory" in told and "Next: check the path" in told


def test_text_that_is_not_utf_8_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Python reads an argument: a byte that is no UTF-8 becomes half a character, which nothing can write."""
    monkeypatch.setenv("CONSILIUM_URL", "https://127.0.0.1:9")
    monkeypatch.setenv("CONSILIUM_TOKEN", "token")
    assert app.run(["people", "disable", "ad\udce4", "--json"]) == 5
    assert json.loads(capsys.readouterr().err)["error"]["message"] == "a text that was given is not UTF-8"


@pytest.mark.parametrize("name", ["Ada", "ada lovelace", "ad\udce4", "a" * 64, "", "ada\n"])
def test_nobody_gets_an_account_whose_name_no_login_takes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONSILIUM_PASSWORD", "correct horse")
    home = str(tmp_path / "coordinator")
    assert app.run(["coordinator", "init", "--url", "https://127.0.0.1:9443", "--home", home]) == 0
    assert app.run(["coordinator", "person", name, "--role", "admin", "--home", home]) == 5
    assert "the name of an account" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://fl.example.org", "fl.example.org:8443", "fl.example.org", "https://"])
def test_a_password_goes_nowhere_but_over_https(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_PASSWORD", "correct horse battery")
    assert app.run(["login", url, "--name", "ada"]) == 5
    assert "write it as https://HOST:PORT" in capsys.readouterr().err


def test_what_others_wrote_is_shown_without_markup_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([{"study": "a", "title": "closed [/b] and [red]open\x1b[2J"}], False)
    assert "closed [/b] and [red]open [2J" in capsys.readouterr().out
