"""Round 0 of a run at the site: keys with every other site, for this run alone; phases KEYS, PAIR and PROVE.

What must hold before a key is used: (1) every site's keys are signed by the identity in them   (2) the roster is whole,
has as many sites as everybody here and there asks for, and only invited ones   (3) a person here has compared the words
of the roster with other hospitals, or every identity on it was compared before under the same name   (4) every site has
the same key with this one. Who else takes part in the run is decided here, and does not change.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from sqlite3 import Row

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, Invalid, Refused, Unavailable
from consilium.core.ids import SiteId
from consilium.core.study import Plan
from consilium.governance.policy import Policy
from consilium.privacy import pairing as protocol
from consilium.privacy.pairing import Confirmed, Keys, Paired, Roster, Secrets
from consilium.site.declarations import promise, willing
from consilium.site.folder import Folder
from consilium.site.journal import Journal, Writing
from consilium.site.steps import Made, Place, Steps, parsed, place
from consilium.wire.identity import Identity
from consilium.wire.messages import Step, Task
from consilium.wire.words import WORDS

log = logging.getLogger(__name__)
SPOKEN = 6
"""Words that people read to each other: 48 bits, over nonces that nobody knew before."""


@dataclass
class Pairing:
    """The site's keys of each run, in its journal. `recall`: look whether that was restored from an older copy."""

    site: SiteId
    folder: Folder
    identity: Identity
    journal: Journal
    steps: Steps
    recall: Callable[[datetime], None] = lambda now: None

    def step(self, task: Task, plan: Plan) -> Made | None:
        """The answer to a permitted task of kind PAIR; None: it waits for a person.

        Raises: Refused: `reason` is roster, pairing, forged or replayed.   Unavailable.
        """
        if task.phase == "KEYS":
            return self._keys(task, plan)
        newest = self._newest(task.run)
        if newest is None or newest["attempt"] != task.attempt:
            raise replayed(f"attempt {task.attempt} of agreeing on keys for {task.run} is not the newest here")
        return self._pair(task, plan, newest) if task.phase == "PAIR" else self._prove(task, newest)

    def _newest(self, run: str) -> Row | None:
        return self.journal.row("SELECT * FROM epochs WHERE run = ? ORDER BY attempt DESC LIMIT 1", run)

    def _keys(self, task: Task, plan: Plan) -> Made:
        newest = self._newest(task.run)
        if newest is not None and newest["attempt"] >= task.attempt:
            raise replayed(f"keys for {task.run} were agreed here before")
        secrets = os.urandom(128)
        policy = self.folder.policy()
        tells = self._tells(policy, plan)
        message = _secrets(secrets).keys(
            task.run, task.attempt, self.site, self.identity.public, policy.floor(plan.study),
            tells,
        )  # fmt: skip

        def keep(tx: Writing) -> None:
            if tells:
                promise(tx, plan, task.run, self.identity, self.site, datetime.now(UTC))
            # Earlier rosters stay: by them sums are checked that were opened among them. Their secrets do not.
            tx.do("UPDATE epochs SET secrets = zeroblob(0), capsules = '', roots = '' WHERE run = ?", task.run)
            tx.do("INSERT INTO epochs (run, attempt, secrets) VALUES (?, ?, ?)", task.run, task.attempt, secrets)

        return Made(message, keep, erases=newest is not None)

    def _tells(self, policy: Policy, plan: Plan) -> bool:
        """Whether this hospital says that it will tell figures of itself alone. Raises: Unavailable: ask again."""
        if not willing(self.journal, policy, plan):
            return False
        try:
            self.recall(datetime.now(UTC))
        except Unavailable:
            raise
        except ConsiliumError as error:  # nobody knows what was promised before
            log.warning("figures of this hospital alone are not told of %s: %s", plan.study.name, error.message)
            return False
        return willing(self.journal, policy, plan)

    def _pair(self, task: Task, plan: Plan, epoch: Row) -> Made:
        own = self.steps.own(task.run, place(task)._replace(phase="KEYS"))
        assert own is not None
        said = self.steps.messages(
            task, place(task)._replace(phase="KEYS"), lambda _, step: str(step.body.get("identity")), Keys
        )
        keys = parsed(own, Keys)
        roster = Roster.of(said, keys)
        self._fits(roster, task, plan)
        capsules = {}
        for one in roster.keys[roster.sites.index(self.site) + 1 :]:
            try:
                capsules[one.site] = MLKEM768PublicKey.from_public_bytes(one.mlkem768).encapsulate()
            except ValueError as error:
                raise Refused(f"the keys of {one.site} are no keys", "ask that site", reason="pairing") from error
        told = {site: ciphertext for site, (_, ciphertext) in capsules.items()}

        def keep(tx: Writing) -> None:
            tx.do(
                "UPDATE epochs SET roster = ?, capsules = ? WHERE run = ? AND attempt = ?",
                json.dumps([one.model_dump(mode="json") for one in roster.keys]),
                json.dumps({site: secret.hex() for site, (secret, _) in capsules.items()}), task.run, task.attempt,
            )  # fmt: skip

        return Made(protocol.pair(roster, keys, _secrets(epoch["secrets"]), told), keep)

    def _fits(self, roster: Roster, task: Task, plan: Plan) -> None:
        invited = set(plan.study.sites)
        if len(roster.sites) < roster.min_sites:  # what is asked for here stands in it, and the guard knows it, too
            raise Refused(
                f"{len(roster.sites)} hospitals would be in a sum, and one of them asks for {roster.min_sites}",
                "wait for more hospitals",
                reason="roster",
            )
        if roster.sites != tuple(sorted(task.roster)) or (invited and not invited.issuperset(roster.sites)):
            raise Refused(
                "the roster is not that of the task, or holds a hospital that the study does not invite",
                "compare both audit logs",
                reason="roster",
            )

    def _prove(self, task: Task, epoch: Row) -> Made | None:
        roster = roster_of(epoch)
        roots = _unhexed(epoch["roots"]) if epoch["roots"] else self._rooted(task, roster, epoch)
        if not known(self.journal, roster, self.site):
            return None
        return Made(protocol.confirm(roster, self.site, roots))

    def _rooted(self, task: Task, roster: Roster, epoch: Row) -> dict[SiteId, bytes]:
        received = self.steps.messages(task, place(task)._replace(phase="PAIR"), signers(roster), Paired)
        secrets, capsules = _secrets(epoch["secrets"]), _unhexed(epoch["capsules"])
        roots = protocol.roots(roster, self.site, secrets, capsules, received)
        words = spoken(roster.fingerprint({site: one.nonce for site, one in received.items()}))
        with self.journal.write() as tx:
            tx.do(
                "UPDATE epochs SET roots = ?, words = ? WHERE run = ? AND attempt = ?",
                json.dumps({site: root.hex() for site, root in roots.items()}), words, task.run, task.attempt,
            )  # fmt: skip
        return roots

    def roster(self, task: Task) -> Roster:
        """The roster of a task's run, once every site on it proved that it has the same key with this one.

        Raises: Refused: keys were not agreed here (`pairing`), or the task's cohort is another one (`roster`).
        """
        epoch = self._newest(task.run)
        proved = epoch is not None and self.steps.said(task.run, Place("PAIR", 0, epoch["attempt"], "PROVE"))
        if epoch is None or not proved:
            raise Refused(f"no keys for {task.run} were agreed here", "begin a new run", reason="pairing")
        roster = roster_of(epoch)
        if task.cohort != roster.sites:
            raise Refused(
                "the cohort is not the roster on which keys were agreed", "compare both audit logs", reason="roster"
            )
        if epoch["roots"]:
            self._close(task, roster, epoch)
        return roster

    def _close(self, task: Task, roster: Roster, epoch: Row) -> None:
        """Keep a chain of keys with each site; what the first of them was made from is erased."""
        roots = _unhexed(epoch["roots"])
        proofs = self.steps.messages(task, Place("PAIR", 0, epoch["attempt"], "PROVE"), signers(roster), Confirmed)
        protocol.check(roster, self.site, roots, proofs)
        with self.journal.write(erases=True) as tx:
            tx.do("DELETE FROM chains WHERE run = ?", task.run)  # of keys that were agreed before, if there were
            for other, root in roots.items():
                tx.do("INSERT OR REPLACE INTO chains VALUES (?, ?, 0, ?)", task.run, other, root)
            tx.do(
                "UPDATE epochs SET secrets = zeroblob(0), capsules = '', roots = '' WHERE run = ? AND attempt = ?",
                task.run, epoch["attempt"],
            )  # fmt: skip

    def keys(self, run: str, opening: int) -> dict[SiteId, bytes]:
        """The key with each other site for one opening. Raises: Refused: it is past, and they are erased."""
        return {site: key for site, (_, key) in self._at(run, opening).items()}

    def advance(self, tx: Writing, run: str, opening: int) -> None:
        """Erase the keys of openings before this one. Call it once the state that they led to was computed here."""
        for site, (chain, _) in self._at(run, opening).items():
            tx.do("UPDATE chains SET opening = ?, chain = ? WHERE run = ? AND site = ?", opening, chain, run, site)

    def _at(self, run: str, opening: int) -> Mapping[SiteId, tuple[bytes, bytes]]:
        """By site: the chain's key as it stands before this opening, and the opening's key."""
        found = {}
        for row in self.journal.rows("SELECT site, opening, chain FROM chains WHERE run = ?", run):
            chain = bytes(row["chain"])
            if row["opening"] > opening:
                raise replayed(f"the keys of opening {opening} of {run} are erased: it is past")
            for past in range(row["opening"], opening):
                chain, _ = protocol.ratchet(chain, past)
            found[SiteId(row["site"])] = chain, protocol.ratchet(chain, opening)[1]
        return found


def replayed(what: str) -> Refused:
    """The refusal of what was asked, or answered, before."""
    return Refused(what, "compare both audit logs", reason="replayed")


def roster_of(epoch: Row) -> Roster:
    """The roster that stands in the journal. Raises: Invalid: it is damaged.   Refused: there is none yet."""
    if not epoch["roster"]:
        raise Refused(f"this site has accepted no roster for {epoch['run']}", "begin a new run", reason="pairing")
    try:
        return _roster(epoch["roster"])
    except (ValidationError, ValueError) as error:
        raise Invalid("the roster in the journal is damaged", "restore the journal from your backup") from error


@lru_cache(maxsize=8)  # of the text alone: every phase of every round asks for it, and for its digest
def _roster(text: str) -> Roster:
    return Roster(tuple(Keys.model_validate(one) for one in json.loads(text)))


def signers(roster: Roster) -> Callable[[SiteId, Step], str]:
    """By which key a site of the roster signs."""
    keys = {one.site: one.identity for one in roster.keys}

    def signer(site: SiteId, _: Step) -> str:
        if site not in keys:
            raise Refused(f"{site} is not on the roster", "compare both audit logs", reason="roster")
        return keys[site]

    return signer


def known(journal: Journal, roster: Roster, site: SiteId) -> bool:
    """Whether every other identity on a roster was compared here before, under the same name."""
    pins = {row["site"]: row["identity"] for row in journal.rows("SELECT site, identity FROM pins")}
    return all(one.site == site or pins.get(one.site) == one.identity for one in roster.keys)


def spoken(fingerprint: bytes) -> str:
    """A fingerprint as words."""
    return " ".join(WORDS[byte] for byte in fingerprint[:SPOKEN])


def _secrets(data: bytes) -> Secrets:
    return Secrets(bytes(data[:32]), bytes(data[32:96]), bytes(data[96:]))


def _unhexed(text: str) -> dict[SiteId, bytes]:
    return {SiteId(site): bytes.fromhex(value) for site, value in json.loads(text).items()}
