"""Bad transcripts: the good one of a file with few changes, and the reason for which one site refuses, in which phase.

`secagg_bad.json` and `pairing_bad.json` name the changes as JSON Patch does (RFC 6902). The package and an
implementation that shares no line with it refuse each for that reason, and neither refuses the good one.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from consilium.core.errors import ConsiliumError
from consilium.privacy import pairing, secagg
from consilium.privacy.inline import expected
from consilium.privacy.pairing import Confirmed, Keys, Paired, Roster, Secrets
from consilium.privacy.secagg import Confirm, Masked, Open, Ready
from vectors import slow_refusals
from vectors.slow_secagg import SlowSite
from vectors.test_secagg_transcript import bytes_of, keys_of

HERE = Path(__file__).parent
LAST = (7, 1)  # the transcript is of the second attempt of round 7
Json = dict[str, Any]


def read(name: str) -> Any:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def cases(name: str) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in read(name)]


def patched(good: Json, changes: list[Json]) -> Json:
    found = copy.deepcopy(good)
    for change in changes:
        *way, last = change["path"].removeprefix("/").split("/")
        inside: Any = found
        for step in way:
            inside = inside[int(step) if isinstance(inside, list) else step]
        at = int(last) if isinstance(inside, list) else last
        if change["op"] == "add":
            assert at not in inside
            inside[at] = change["value"]
        elif change["op"] == "replace":
            assert inside[at] != change["value"]
            inside[at] = change["value"]
        else:
            assert change["op"] == "remove"
            del inside[at]
    return found


def messages(kind: Any, told: Json) -> dict[str, Any]:
    return {name: kind.model_validate(one) for name, one in told.items()}


def secagg_by_package(good: Json, bad: Json, site: str, phase: str) -> None:
    """Play the good transcript to a phase, and there the bad one."""
    asked = Open.model_validate(good["open"])
    own = secagg.Expected(**{**vars(expected(asked)), "last": LAST, "opened_round": LAST[0] - 1})
    if phase == "READY":
        asked = Open.model_validate(bad["open"])
    seat, _ = secagg.ready(site, keys_of(site), bytes_of("coins", site), asked, own)
    if phase == "READY":
        return
    seat, _ = secagg.mask(seat, messages(Ready, (bad if phase == "MASK" else good)["ready"]).values())
    if phase == "MASK":
        return
    mine = Masked.model_validate(good["masked"][site])
    seat, _ = secagg.confirm(seat, messages(Masked, (bad if phase == "CONFIRM" else good)["masked"]), mine)
    if phase == "UNMASK":
        secagg.unmask(seat, messages(Masked, bad["masked"]), messages(Confirm, bad["confirm"]).values())


def secagg_by_description(good: Json, bad: Json, site: str, phase: str) -> str:
    seat = SlowSite(site, keys_of(site), bytes_of("coins", site), good["open"])
    if phase == "READY":
        return slow_refusals.opened(bad["open"], good["open"], site, LAST)
    if phase == "MASK":
        return slow_refusals.called(seat, list(bad["ready"].values()))
    seat.call(list(good["ready"].values()))
    if phase == "CONFIRM":
        return slow_refusals.survived(seat, bad["masked"], good["masked"][site])
    return slow_refusals.proved(seat, bad["masked"], list(bad["confirm"].values()), good["confirm"][site]["survivors"])


def whole_by_package(good: Json, bad: Json, site: str, phase: str) -> None:
    asked = Open.model_validate(good["open"])
    seat, _ = secagg.ready(site, keys_of(site), bytes_of("coins", site), asked, expected(asked))
    seat, _ = secagg.mask(seat, messages(Ready, good["ready"]).values())
    secagg.whole(seat, messages(Masked, bad["masked"]), Masked.model_validate(good["masked"][site]))


def whole_by_description(good: Json, bad: Json, site: str, phase: str) -> str:
    seat = SlowSite(site, keys_of(site), bytes_of("coins", site), good["open"])
    seat.call(list(good["ready"].values()))
    return slow_refusals.opened_whole(seat, bad["masked"], good["masked"][site])


def pairing_by_package(good: Json, bad: Json, site: str, phase: str) -> None:
    own = Secrets(*(bytes.fromhex(part) for part in good["secrets"][site].values()))
    roster = Roster.of(messages(Keys, bad["keys"]), Keys.model_validate(good["keys"][site]))
    if phase == "ROSTER":
        return
    capsules = {other: bytes.fromhex(one["shared"]) for other, one in good["capsules"][site].items()}
    roots = pairing.roots(roster, site, own, capsules, messages(Paired, bad["paired"]))
    if phase == "CONFIRM":
        pairing.check(roster, site, roots, messages(Confirmed, bad["confirmed"]))


def pairing_by_description(good: Json, bad: Json, site: str, phase: str) -> str:
    if phase == "ROSTER":
        return slow_refusals.listed(bad["keys"], site, good["keys"][site])
    if phase == "PAIR":
        return slow_refusals.paired(bad["keys"], bad["paired"], good["secrets"], site)
    return slow_refusals.confirmed(bad["keys"], bad["paired"], bad["confirmed"], good["secrets"], site)


PLAYED: dict[str, Any] = {
    "secagg": (secagg_by_package, secagg_by_description, ("READY", "MASK", "CONFIRM", "UNMASK")),
    "whole": (whole_by_package, whole_by_description, ("UNMASK",)),
    "pairing": (pairing_by_package, pairing_by_description, ("ROSTER", "PAIR", "CONFIRM")),
}


@pytest.mark.parametrize("protocol", PLAYED)
def test_the_good_transcript_is_refused_by_neither_and_each_phase_has_bad_ones(protocol: str) -> None:
    package, description, phases = PLAYED[protocol]
    good, bad = read(f"{protocol}_transcript.json"), read(f"{protocol}_bad.json")
    assert {one["phase"] for one in bad} == set(phases) and len({one["name"] for one in bad}) == len(bad)
    for phase in phases:
        for site in {one["site"] for one in bad if one["phase"] == phase}:
            package(good, good, site, phase)
            assert description(good, good, site, phase) == ""


@pytest.mark.parametrize("case", cases("secagg_bad.json"))
def test_a_bad_round_is_refused_for_its_reason(case: Json) -> None:
    refused("secagg", case)


@pytest.mark.parametrize("case", cases("whole_bad.json"))
def test_a_bad_opening_without_confirm_is_refused_for_its_reason(case: Json) -> None:
    refused("whole", case)


@pytest.mark.parametrize("case", cases("pairing_bad.json"))
def test_a_bad_agreement_on_keys_is_refused_for_its_reason(case: Json) -> None:
    refused("pairing", case)


def refused(protocol: str, case: Json) -> None:
    package, description, _ = PLAYED[protocol]
    good = read(f"{protocol}_transcript.json")
    bad = patched(good, case["changes"])
    with pytest.raises(ConsiliumError) as caught:
        package(good, bad, case["site"], case["phase"])
    assert getattr(caught.value, "reason", caught.value.code) == case["reason"]
    assert description(good, bad, case["site"], case["phase"]) == case["reason"]
