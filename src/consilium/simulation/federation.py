"""A federation on this machine, by public commands: every line is one that a person can type in a shell."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click

from consilium.simulation.processes import Children, environment, foreign

AGAIN_S = 30.0
OUT_OF_REACH, NOT_YET = 4, 5
"""Exit codes after which a person would try again in a moment: nobody answers, or a message has not arrived yet."""


@dataclass(frozen=True)
class Line:
    """One line as it was typed. `background`: it runs on, and the shell goes on."""

    text: str
    background: bool = False


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))


Tell = Callable[[str], None]


@dataclass
class Shell:
    """Types lines in `folder`, tells of each, and keeps them. Long-running ones become children."""

    folder: Path
    variables: dict[str, str]
    tell: Tell
    children: Children = field(init=False)
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.children = Children(self.folder, self.variables)

    def preamble(self, where: str) -> list[str]:
        """What is typed once in a shell that shall go on from here."""
        typed = [where]
        if foreign():
            typed.append(f"unset {' '.join(foreign())}")
        here = Path(sys.executable).parent
        if shutil.which("consilium") != str(here / "consilium"):
            typed.append(f'export PATH={shlex.quote(str(here))}:"$PATH"')
        home = '"$PWD"/person'  # the same folder wherever the lines are retyped
        return [*typed, f"export CONSILIUM_HOME={home}"] + [
            f"export {name}={shlex.quote(value)}" for name, value in self.variables.items() if name != "CONSILIUM_HOME"
        ]

    def type(self, text: str, again: int | None = None) -> str:
        """One line to its end; what it printed. After exit code `again` it is typed once more, for a while."""
        self.tell(text)
        self.lines.append(Line(text))
        return self._typed(text, again)

    def together(self, blocks: Sequence[Sequence[str]], again: int | None = None) -> list[list[str]]:
        """Blocks of lines, two blocks at a time, the lines of each in order; what each line printed."""

        def block(texts: Sequence[str]) -> list[str]:
            return [self._typed(text, again) for text in texts]

        said = []
        with ThreadPoolExecutor(2) as pool:
            for texts, printed in zip(blocks, pool.map(block, blocks), strict=True):
                for text in texts:
                    self.tell(text)
                    self.lines.append(Line(text))
                said.append(printed)
        return said

    def shown(self, text: str) -> None:
        """One line that speaks to the terminal itself."""
        self.tell(text)
        self.lines.append(Line(text))
        words = ["/bin/sh", "-c", text]
        status = subprocess.run(words, cwd=self.folder, env=environment(**self.variables)).returncode  # noqa: S603
        if status != 0:
            raise click.exceptions.Exit(status)

    def background(self, *programs: "Program") -> None:
        """Type lines that start programs in the background, and wait until each is ready."""
        for program in programs:
            text = f"{shlex.join(program.words)} >> {program.log} 2>&1"
            self.tell(f"{text} &")
            self.lines.append(Line(text, background=True))
        self.start(*programs)

    def start(self, *programs: "Program") -> None:
        """The same without a word of it."""
        ended = {}
        for program in programs:
            log = self.folder / program.log
            ended[program.name] = log.stat().st_size if log.exists() else 0
            words = [str(Path(sys.executable).parent / program.words[0]), *program.words[1:]]
            self.children.start(program.name, words, log)
        for program in programs:
            self.children.until_said(program.name, program.ready, ended[program.name])

    def _typed(self, text: str, again: int | None) -> str:
        ends = time.monotonic() + AGAIN_S
        while True:
            done = subprocess.run(  # noqa: S603
                ["/bin/sh", "-c", text], cwd=self.folder, env=environment(**self.variables), capture_output=True,
                text=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode == 0:
                return done.stdout
            if done.returncode != again or time.monotonic() > ends:
                self.children.check()
                click.echo(f"{(done.stderr or done.stdout).strip()}\nThis came of: {text}", err=True)
                raise click.exceptions.Exit(done.returncode)
            time.sleep(0.2)


@dataclass(frozen=True)
class Program:
    """A program that runs on: its log says `ready` once it is."""

    name: str
    words: tuple[str, ...]
    log: str
    ready: str


COORDINATOR = Program(
    "the coordinator", ("consilium", "coordinator", "run", "--home", "coordinator", "--host", "127.0.0.1"),
    "coordinator.log", "listening on",
)  # fmt: skip


def agent(site: str) -> Program:
    """The agent of a site."""
    words = ("consilium", "site", "run", "--home", f"sites/{site}")
    return Program(f"the agent of {site}", words, f"sites/{site}.log", "is admitted at")


def begin(shell: Shell, url: str) -> None:
    """A new coordinator at `url`, its admin, and a session."""
    shell.type(f"consilium coordinator init --home coordinator --url {url}")
    shell.type("consilium coordinator person admin --role admin --home coordinator")
    shell.background(COORDINATOR)
    log_in(shell, url)


def log_in(shell: Shell, url: str) -> None:
    """A session of the admin."""
    shell.type(f"consilium login {url} --name admin --ca coordinator/tls/ca.pem", again=OUT_OF_REACH)


def join(shell: Shell, sites: Sequence[str]) -> None:
    """New sites: each makes its key and joins by a token; their fingerprints are compared and they are admitted."""
    shell.together([[make(site), enter(site), admit(site)] for site in sites])
    shell.background(*(agent(site) for site in sites))


def compare(shell: Shell, run: str, sites: Sequence[str]) -> None:
    """People compare the words of a run's roster: the first site's are read to the others, and the second's to it."""
    first, second = sites[:2]
    for site in (first, second):
        shell.type(f"consilium site compare {run} --home sites/{site} < /dev/null > sites/{site}.words", again=NOT_YET)
    click.echo(shell.type(f"tail -n 2 sites/{first}.words"), nl=False)
    shell.together([[hear(run, site, second if site == first else first)] for site in sites], again=NOT_YET)


def hear(run: str, site: str, other: str) -> str:
    """The line by which a person at a site takes the words that another site's person reads."""
    words = f'"$(tail -n 1 sites/{other}.words)"'
    return f"consilium site compare {run} --home sites/{site} --person steward --words {words}"


def make(site: str) -> str:
    """The line that makes a site's folder."""
    return f"consilium site init --home sites/{site}"


def enter(site: str) -> str:
    """The line by which a site joins; what it says is kept, with the fingerprint that is to be compared."""
    token = f'"$(consilium sites token {site} | head -n 1)"'
    return f"consilium site join {token} --home sites/{site} > sites/{site}.joined"


def admit(site: str) -> str:
    """The line that admits a site whose fingerprint is the one that it said."""
    said = f"\"$(sed -n 's/.*admits the site: //p' sites/{site}.joined)\""
    return f"consilium sites admit {site} --fingerprint {said}"
