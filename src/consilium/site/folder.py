"""The site's folder: key, policy, mappings, journal, work. Everything in it belongs to the hospital."""

import json
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from consilium import yamlfile
from consilium.core.errors import Conflict, Invalid, NotFound, PolicyInvalid
from consilium.durable import present, replace_file, rested
from consilium.governance.policy import TEMPLATE, Policy
from consilium.site.journal import Journal
from consilium.wire.identity import Identity


@dataclass(frozen=True)
class Membership:
    """To whom this site belongs: its name there, the coordinator's address and its signing key."""

    site: str
    url: str
    coordinator_key: str


@dataclass(frozen=True)
class Folder:
    """Paths under `home`."""

    home: Path

    @classmethod
    def create(cls, home: Path) -> "Folder":
        """Make the folder, its journal, a policy to be edited and, last, its key.

        Raises: Conflict: there is a site here already; nothing is changed.
        """
        folder = cls(home.absolute())
        if folder.key.exists():
            raise Conflict(f"{home} holds a site already", "use it, or choose another --home")
        for path in (folder.home, folder.mappings, folder.work):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not folder.policy_file.exists():
            replace_file(folder.policy_file, TEMPLATE.encode())
        Journal(folder.journal).close()  # from now on it is there, or it was lost
        Identity.create(folder.key)
        return folder

    @classmethod
    def open(cls, home: Path) -> "Folder":
        """An existing folder. Raises: NotFound."""
        folder = cls(home.absolute())
        if not folder.key.exists():
            raise NotFound(
                f"{home} holds no site",
                "make one with `consilium site init`; if it was here, see whether its disk is mounted: with a new key "
                "it would be another site",
            )
        if not present(folder.journal):
            raise NotFound(
                f"there is no journal at {folder.journal}: approvals, keys and the privacy ledger stood in it",
                "see whether its disk is mounted; else restore it from your backup, as "
                "docs/how-to/back-up-and-restore.md says",
            )
        with suppress(OSError):  # where it cannot be written, what needs it says so
            folder.work.mkdir(exist_ok=True, mode=0o700)  # a backup may lack it
        return folder

    @property
    def key(self) -> Path:
        """Private key."""
        return self.home / "identity.key"

    @cached_property
    def policy_file(self) -> Path:
        """The hospital's policy."""
        return self.home / "policy.yaml"

    @property
    def mappings(self) -> Path:
        """Mappings, one file per contract: CONTRACT.yaml."""
        return self.home / "mappings"

    @property
    def extracts(self) -> Path:
        """What was fetched from the hospital's servers, by study."""
        return self.home / "extracts"

    @property
    def failures(self) -> Path:
        """What processes that train said when they failed, by run; it may quote patients."""
        return self.home / "failures"

    @cached_property
    def models(self) -> Path:
        """Models that this site trained for itself, by run: they are nobody else's."""
        path = self.home / "models"
        path.mkdir(exist_ok=True)
        return path

    @cached_property
    def work(self) -> Path:
        """States, updates and permits of runs."""
        return self.home / "work"

    @property
    def journal(self) -> Path:
        """Durable journal."""
        return self.home / "journal.sqlite"

    @property
    def bell(self) -> Path:
        """Named pipe on which the agent is woken by commands."""
        return self.home / "agent.bell"

    @property
    def lock(self) -> Path:
        """Held by the one agent of this folder."""
        return self.home / "agent.lock"

    def identity(self) -> Identity:
        """The site's key."""
        return Identity.load(self.key)

    def policy(self) -> Policy:
        """The policy as it stands now. Raises: PolicyInvalid."""
        try:
            return _policy(rested(self.policy_file), self.policy_file.name)
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyInvalid(f"{self.policy_file} cannot be read", "give it back, in UTF-8") from error

    def joined(self) -> bool:
        """Whether this site belongs to a federation."""
        return (self.home / "site.json").exists()

    def membership(self) -> Membership:
        """Where this site belongs. Raises: NotFound: it has not joined.   Invalid."""
        if not self.joined():
            raise NotFound("this site has not joined a federation", "join with `consilium site join TOKEN`")
        try:
            return Membership(**json.loads((self.home / "site.json").read_bytes()))
        except (ValueError, TypeError) as error:
            raise Invalid(f"{self.home / 'site.json'} is damaged", "restore it from your backup") from error

    def keep_membership(self, membership: Membership) -> None:
        """Record where this site belongs."""
        replace_file(self.home / "site.json", json.dumps(asdict(membership), indent=2).encode() + b"\n")

    def authority(self) -> Path | None:
        """The coordinator's own CA (PEM), where it has one."""
        path = self.home / "coordinator-ca.pem"
        return path if path.exists() else None

    def keep_authority(self, pem: bytes | None) -> None:
        """Record the coordinator's own CA."""
        if pem is not None:
            replace_file(self.home / "coordinator-ca.pem", pem)

    def mapping(self, contract: str, chosen: Path | None) -> Path:
        """The mapping file for a contract. Raises: NotFound."""
        path = chosen or self.mappings / f"{contract}.yaml"
        try:
            about = path.stat()
        except OSError:
            about = None
        if about is None or not stat.S_ISREG(about.st_mode):
            raise NotFound(
                f"there is no mapping {path}",
                f"write one for the contract {contract}, there or elsewhere, and name it with --mapping",
            )
        return _resolved(str(path), about.st_dev, about.st_ino)

    def run(self, run: str) -> Path:
        """Folder of one run."""
        path = self._runs.get(run)
        if path is None:
            path = self._runs[run] = self.work / run
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @cached_property
    def _runs(self) -> dict[str, Path]:
        return {}


@lru_cache(maxsize=16)
def _resolved(path: str, device: int, inode: int) -> Path:
    """Where a file lies that has been looked at: every round asks, and to look at each folder above takes longer."""
    return Path(path).resolve()


@lru_cache(maxsize=4)
def _policy(data: bytes, name: str) -> Policy:
    return yamlfile.parse(data.decode(), Policy, PolicyInvalid, name)
