"""People compare the words of a roster, hospital to hospital: what the coordinator relays is believed after that alone.

Equal words pin every identity on the roster, so that later runs with the same hospitals need no comparison.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from consilium.core.errors import Conflict, Invalid, NotFound, Refused
from consilium.privacy.pairing import Roster
from consilium.site import leftout
from consilium.site.journal import Journal
from consilium.site.leftout import LeftOut, spoken
from consilium.site.pairing import SPOKEN, roster_of
from consilium.wire.identity import fingerprint


@dataclass(frozen=True)
class Comparison:
    """What people compare: the roster of a run, and its words. `members` say of each identity what is known of it.

    until: when the run goes on without those who have not compared; None: it does not wait for this hospital.
    late: the run went on without this hospital.
    """

    run: str
    words: str
    roster: Roster
    members: tuple[tuple[str, str, str], ...]
    until: datetime | None = None
    late: LeftOut | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        sites = [{"site": site, "fingerprint": words, "known": said} for site, words, said in self.members]
        return {
            "run": self.run, "words": self.words, "sites": sites,
            "until": self.until.isoformat() if self.until is not None else None,
            "late": self.late.to_json() if self.late is not None else None,
        }  # fmt: skip

    def agreed(self, now: datetime) -> str:
        """What follows for the run from words that agree, and are compared at this moment."""
        kept = "The words agree, and the keys of these hospitals are remembered"
        if self.late is not None:
            return f"{kept}. But it is too late: {self.late.text}.\nNext: {leftout.NEXT}."
        if self.until is None:
            return f"{kept}. {self.run} did not wait for it."
        if now < self.until:
            return (
                f"{kept}. {self.run} goes on once the others have compared them, too; {_at_the_deadline(self.until)}."
            )
        return (
            f"{kept}. But there was time until {spoken(self.until.isoformat())}: if enough others were in time, "
            f"{self.run} goes on without this hospital.\nNext: `consilium site status` says so, once that is known here"
        )

    @property
    def time(self) -> str:
        """Until when there is time to compare."""
        if self.late is not None:
            return f"Too late: {self.late.text}.\nNext: {leftout.NEXT}."
        return "" if self.until is None else f"Compare them soon: {_at_the_deadline(self.until)}."


def _at_the_deadline(until: datetime) -> str:
    when = spoken(until.isoformat())
    return f"at {when} it goes on without those that have not, for good, if enough have"


def comparison(journal: Journal, run: str) -> Comparison:
    """What is to be compared for a run.

    Raises: NotFound: no keys are agreed there, or not yet.   Conflict: the run is over.
    """
    late = leftout.found(journal, run)
    row = journal.row("SELECT * FROM epochs WHERE run = ? AND words != '' ORDER BY attempt DESC LIMIT 1", run)
    if row is None and late is not None:
        raise Conflict(f"it is too late to compare the words of {run}: {late.text}", leftout.NEXT)
    if row is None and leftout.over(journal, run):
        raise Conflict(f"{run} is over: there is nothing to compare any more", "compare in the next run")
    if row is None:
        raise NotFound(
            f"there is no roster of {run} to compare", "`consilium site status` shows which runs wait for it"
        )
    pins = {pin["site"]: pin for pin in journal.rows("SELECT * FROM pins")}
    members = []
    for one in (roster := roster_of(row)).keys:
        pin, said = pins.get(one.site), "not compared yet"
        if pin is not None:
            same = pin["identity"] == one.identity
            said = f"compared by {pin['person']}" if same else f"ANOTHER KEY than {pin['person']} compared"
        members.append((one.site, fingerprint(one.identity), said))
    return Comparison(run, str(row["words"]), roster, tuple(members), leftout.until(journal, run), late)


def compare(journal: Journal, run: str, heard: str, person: str, now: datetime) -> Comparison:
    """Take the words that another hospital read; equal ones pin every identity on the roster.

    Raises: Refused: they are other words (`roster`); that is recorded, and nothing is pinned.   NotFound.   Invalid.
    """
    if not person.strip() or not person.isprintable() or len(person) > 200:
        raise Invalid("a comparison has a person's name, in one line", "write who compares with --person")
    found = comparison(journal, run)
    told = heard.lower().replace(",", " ").split()
    if len(told) != SPOKEN:
        raise Invalid(f"{SPOKEN} words are compared, and {len(told)} were given", "ask for them once more")
    same = told == found.words.split()
    body = {"run": run, "roster": found.roster.digest.hex(), "person": person}
    with journal.write() as tx:
        tx.record("roster-compared" if same else "roster-differs", body, now)
        for one in found.roster.keys if same else ():
            tx.do("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", one.site, one.identity, person, now.isoformat())
        if same:
            tx.do("UPDATE tasks SET status = 'todo' WHERE status = 'waits'")
    if not same:
        raise Refused(
            f"the words of the roster of {run} are others here: not every hospital has the same roster",
            "listen once more; if they differ, somebody between the hospitals alters it: stop the run, call the others",
            reason="roster",
        )
    return replace(comparison(journal, run), until=found.until)
