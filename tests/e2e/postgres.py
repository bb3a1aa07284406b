"""A private PostgreSQL server: own data folder, own port, durable as in production."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from e2e.processes import PATIENCE_S, free_port, guarded

INSTALLED = Path("/usr/lib/postgresql")
USER = "postgres"


def missing() -> str | None:
    """Why there can be no server here; None when there can."""
    if not list(INSTALLED.glob("*/bin/initdb")):
        return f"PostgreSQL is not installed in {INSTALLED}"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no user {USER}"
        if shutil.which("runuser") is None:
            return "PostgreSQL does not run as root, and there is no runuser"
    return None


class Postgres:
    """A server from `start` to `close`; it may be stopped and started between."""

    def __init__(self) -> None:
        newest = max(INSTALLED.glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
        self._bin = newest.parent
        self.folder = Path(tempfile.mkdtemp(prefix="consilium-postgres-"))
        self.port = free_port()
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
        self._data = self.folder / "data"
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C")

    def _run(self, program: str, *words: str | Path) -> None:
        command: list[str | Path] = [self._bin / program, *words]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        # output to a file: the server inherits it and would hold a pipe open
        with (self.folder / "commands.log").open("a+b") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", timeout=PATIENCE_S
            )
            log.seek(0)
            assert done.returncode == 0, f"{program}: {log.read().decode(errors='replace')[-2000:]}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=on"
        self._run(
            "pg_ctl",
            "start",
            "-D",
            self._data,
            "-w",
            "-t",
            f"{PATIENCE_S:g}",
            "-l",
            self.folder / "server.log",
            "-o",
            options,
        )
        guarded(int((self._data / "postmaster.pid").read_text().split()[0]))

    def stop(self, mode: str = "fast") -> None:
        """End it: `fast`, or `immediate` as a power cut would."""
        self._run("pg_ctl", "stop", "-D", self._data, "-w", "-m", mode)

    def close(self) -> None:
        """End it if it runs, and remove its folder."""
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str = "postgres") -> str:
        """Address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def __call__(self) -> str:
        """Make a fresh, empty database; its address."""
        import psycopg

        name = f"consilium_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)
