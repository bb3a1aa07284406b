"""A coordinator that goes back to an older copy of itself, and one with a hospital on its side, under `secure_sum`.

Over HTTPS, on the agents that are shipped. Of the hospital that works with it, it has the key.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.privacy import opening
from consilium.wire.identity import Identity
from consilium.wire.messages import Alarm, Step
from e2e.federation import study
from e2e.lying import HOSPITALS, SECURE, Liar, Play, forged, lying, message, read

pytestmark = pytest.mark.long
REST = HOSPITALS[:3]
NONE = "00" * 32


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with lying(tmp_path_factory.mktemp("colluding")) as made:
        yield made


def play(liar: Liar, name: str) -> Play:
    made = Play(liar, liar.approved(study(name, **SECURE)), f"{name}-1", HOSPITALS)
    made.paired()
    return made


def summed(made: Play) -> Any:
    """The update in the sum of round 1, as the answers open it."""
    return chain.read(made.file(made.liar.keep(made.opened(1, 1)).digest)).arrays["update"]


def true(made: Play, sites: tuple[str, ...] = HOSPITALS) -> Any:
    """The sum of the updates, which stay at the hospitals."""
    homes = {site: made.liar.hospitals[site].home / "work" / made.run for site in sites}
    return sum(chain.read(home / "update-1.safetensors").arrays["update"] for home in homes.values())


def test_false_shares_of_a_hospital_that_works_with_it_are_left_out_and_name_who_sent_them(liar: Liar) -> None:
    """As a holder, west tells another share of what covers east than it has: those of the others open the sum."""
    made, west = play(liar, "holder"), Identity.load(liar.hospitals["west"].home / "identity.key")
    made.through("UNMASK", 1, 1)
    said = made.heard[1, 1, "UNMASK"]["west"]
    own = dict(read(said).body["own"])
    own["east"] = own["east"][:-2] + f"{int(own['east'][-2:], 16) ^ 1:02x}"
    made.heard[1, 1, "UNMASK"]["west"] = forged(said, west, own=own)
    assert np.allclose(summed(made), true(made), atol=1e-6)
    asked, ready, masked, told = made.asked(1, 1), *(made._messages(1, 1, one) for one in ("READY", "MASK", "UNMASK"))
    assert opening.false_holders(asked, masked, told.values()) == ("west",)
    with pytest.raises(Invalid):  # where north's are lacking, too, two are no sum
        opening.recover(asked, ready.values(), masked, [one for site, one in told.items() if site != "north"])


def test_what_is_no_share_of_its_author_stays_at_its_holder_and_opens_nothing(liar: Liar) -> None:
    """As an author, west hashes another share than it sent to east. It signed that, and its agent did not."""
    made, west = play(liar, "author"), Identity.load(liar.hospitals["west"].home / "identity.key")
    made.ask("READY", 1, 1)
    made.ask("MASK", 1, 1)
    said = made.heard[1, 1, "MASK"]["west"]
    hashes = {site: list(of) for site, of in read(said).body["share_hashes"].items()}
    hashes["west"][0] = NONE
    lie = forged(said, west, share_hashes=hashes)
    for site in REST:
        made.show(1, 1, "MASK", (site,), lambda _, said: {**said, "west": lie})
    made.ask("CONFIRM", 1, 1, lie=lambda site, said: said if site == "west" else {**said, "west": lie})
    found = made.ask("UNMASK", 1, 1)
    assert found["west"] == "proofs", "the others confirmed another message than it sent"
    told = {site: message(one) for site, one in found.items() if isinstance(one, bytes)}
    held = {site: sorted(one.own) for site, one in told.items()}
    assert held == {"east": sorted(REST), "north": sorted(HOSPITALS), "south": sorted(HOSPITALS)}
    made.heard[1, 1, "MASK"]["west"] = lie
    with pytest.raises(Invalid):
        made.opened(1, 1)


def test_a_coordinator_that_goes_back_hears_of_no_second_sum(liar: Liar) -> None:
    """The sum over four is open; then it is as before, and asks for one over three, by messages of the same numbers."""
    made = play(liar, "back")
    before = {site: len(liar.inboxes[site]) for site in HOSPITALS}
    made.through("UNMASK", 1, 1)
    assert np.allclose(summed(made), true(made), atol=1e-6)
    mark = len(liar.sent)
    for site in REST:
        taken = len(liar.inboxes[site])
        with liar.came:
            del liar.inboxes[site][before[site] :]
        while len(liar.inboxes[site]) <= taken:
            liar.post(site, made.task("READY", 1, 2).model_copy(update={"roster": REST}))

    def alarms() -> set[str]:
        return {site for site, one, _ in liar.sent[mark:] if isinstance(one, Alarm) and one.why == "inbox-rewritten"}

    liar.until(lambda: alarms() == set(REST), "each hospital says that its messages were rewritten")
    assert [one for _, one, _ in liar.sent[mark:] if isinstance(one, Step)] == []
    for site in REST:
        hospital = liar.hospitals[site]
        assert hospital.journal("SELECT max(attempt) FROM seats WHERE run = ?", made.run) == [(1,)]
        assert "rewritten" in str(hospital.told("status")["alarms"])
