"""People compare the words of a roster, hospital to hospital: what the coordinator relays is believed after that alone.

Equal words pin every identity on the roster, so that later runs with the same hospitals need no comparison.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consilium.core.errors import Invalid, NotFound, Refused
from consilium.privacy.pairing import Roster
from consilium.site.journal import Journal
from consilium.site.pairing import SPOKEN, roster_of
from consilium.wire.identity import fingerprint


@dataclass(frozen=True)
class Comparison:
    """What people compare: the roster of a run, and its words. `members` say of each identity what is known of it."""

    run: str
    words: str
    roster: Roster
    members: tuple[tuple[str, str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        sites = [{"site": site, "fingerprint": words, "known": said} for site, words, said in self.members]
        return {"run": self.run, "words": self.words, "sites": sites}


def comparison(journal: Journal, run: str) -> Comparison:
    """What is to be compared for a run. Raises: NotFound: no keys are agreed there, or not yet."""
    row = journal.row("SELECT * FROM epochs WHERE run = ? AND words != '' ORDER BY attempt DESC LIMIT 1", run)
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
    return Comparison(run, str(row["words"]), roster, tuple(members))


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
    return comparison(journal, run)
