"""The root of the command line: command groups joined by entry point, errors in one sentence, documented exit codes."""

import json
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import click

from consilium import __version__, plugins
from consilium.core import errors

GROUP = "consilium.commands"
EXIT_CODES: dict[int, str] = {
    0: "done; or it was so already, as the words say: asking twice does it once",
    1: "a check failed: the data, the audit log, the training or the run is not as it should be",
    2: "the command was not typed as its `--help` says",
    3: "refused: no permission, not logged in, or a rule forbids it",
    4: "out of reach: the network, the coordinator or a process; trying again is right",
    5: "the input is invalid or names nothing that exists",
    6: "it does not fit the present state, or the two sides are of different releases",
    130: "interrupted by Ctrl-C",
}
"""Exit codes of every command, with their meaning."""
_CODE_OF: tuple[tuple[type[errors.ConsiliumError], int], ...] = (
    (errors.AuditBroken, 1),
    (errors.TrainingFailed, 1),
    (errors.Refused, 3),
    (errors.Unauthenticated, 3),
    (errors.Unavailable, 4),
    (errors.Invalid, 5),
    (errors.NotFound, 5),
    (errors.TooLarge, 5),
    (errors.DataUnusable, 5),
    (errors.Conflict, 6),
    (errors.ProtocolMismatch, 6),
)


def exit_code(error: errors.ConsiliumError) -> int:
    """The exit code that tells a script what kind of error it was."""
    return next((code for kind, code in _CODE_OF if isinstance(error, kind)), 1)


def commands() -> Mapping[str, EntryPoint]:
    """Every installed command group by its name; none is imported."""
    return plugins.names(GROUP)


class Groups(click.Group):
    """Command groups that the installed packages offer; each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all groups."""
        return sorted(commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one group; a group whose extra is missing says which module it lacks."""
        point = commands().get(cmd_name)
        if point is None:
            return None
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            return _lacking(cmd_name, error.name or str(error))
        assert isinstance(command, click.Command)
        return command


def _lacking(name: str, module: str) -> click.Command:
    """A command that says what must be installed before it can run."""

    def refuse(arguments: tuple[str, ...]) -> None:
        raise errors.Unavailable(f"`consilium {name}` needs the module {module}", "install the extra that holds it")

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
        help=f"Not available here: needs the module {module}.",
    )


@click.command(cls=Groups, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="consilium")
def root() -> None:
    """Hospitals train one model together, and no patient record leaves its hospital.

    \b
    On one machine:     consilium demo            or      consilium up
    At a hospital:      consilium site --help
    Data scientist:     consilium study --help
    Coordinator:        consilium coordinator --help

    Every command that comes to an end takes --json. Exit codes: 0 done, 1 a check failed, 2 usage, 3 refused,
    4 out of reach, 5 invalid input, 6 conflict, 130 interrupted.
    """


def problem(error: errors.ConsiliumError) -> dict[str, Any]:
    """An error as data, as `--json` prints it."""
    body = {"code": error.code, "message": error.message, "remedy": error.remedy}
    if isinstance(error, errors.Refused):
        body["reason"] = error.reason
    return {"error": body}


def mistyped(error: click.ClickException) -> dict[str, Any]:
    """An error of usage as data; its code is `usage`, and its remedy the help of the command."""
    of = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "consilium"
    return {"error": {"code": "usage", "message": error.format_message(), "remedy": f"read `{of} --help`"}}


def report(error: errors.ConsiliumError, as_json: bool) -> None:
    """Print an error on stderr: what happened, and what to do next."""
    if as_json:
        click.echo(json.dumps(problem(error), ensure_ascii=False), err=True)
        return
    click.echo(f"{click.style('Error', fg='red', bold=True)} ({error.code}): {error.message}", err=True)
    if error.remedy:
        click.echo(f"  Next: {error.remedy}", err=True)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = any(word == "--json" or word.startswith("--json=") for word in arguments)
    try:
        outcome = root.main(arguments, prog_name="consilium", standalone_mode=False)
    except errors.ConsiliumError as error:
        report(error, as_json)
        return exit_code(error)
    except click.ClickException as error:
        if as_json:
            click.echo(json.dumps(mistyped(error), ensure_ascii=False), err=True)
        else:
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return 130
    except UnicodeEncodeError as error:
        if not "\ud800" <= error.object[error.start] <= "\udfff":  # only half a character is in no UTF-8
            raise
        told = errors.Invalid(
            "a text that was given is not UTF-8", "write it in UTF-8; `locale` says what is sent here"
        )
        report(told, as_json)
        return exit_code(told)
    except BrokenPipeError:
        sys.stderr.close()  # who read us has gone: a second complaint would only hide that
        return 0
    except OSError as error:  # a folder that may not be written, a full disk: nothing that a stack would explain
        where = error.filename or "this machine"
        told = errors.Invalid(
            f"{where}: {error.strerror or error}", "check the path, its permissions and the free space"
        )
        report(told, as_json)
        return exit_code(told)
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """Entry point of the `consilium` command."""
    sys.exit(run(sys.argv[1:]))
