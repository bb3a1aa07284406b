"""What a hospital has nothing of stands in its READY; to that nobody adds anything where too few others have some."""

import csv
import io
import json
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest

from consilium.coordinator import steps
from consilium.core import state as chain
from consilium.core.errors import EnvelopeInvalid, Refused
from consilium.core.ids import SiteId, digest
from consilium.data.cohort import held_out
from consilium.privacy.secagg import Open, Ready
from consilium.simulation import local
from consilium.site.seats import Seats
from consilium.site.steps import parsed
from consilium.wire.envelope import seal
from consilium.wire.messages import Step
from unit.site.circle import POLICY, SEALED, circle, secure, step_of

NUMBER = {"type": "number", "unit": "1", "range": [-10, 10], "missing": "allowed"}
CONTRACT = {
    "id": "sums", "features": [{"id": name, "meaning": name, **NUMBER} for name in "xy"],
    "label": {"id": "large", "meaning": "the sum is large", "type": "binary"},
}  # fmt: skip


def without(mapping: Path) -> None:
    """Nobody of a hospital who is held out has the outcome, and three patients alone have a `y`."""
    path = mapping.parent / "table.csv"
    head, *rows = csv.reader(io.StringIO(path.read_text()))
    for at, row in enumerate(rows):
        row[2] = row[2] if at < 3 else ""
        row[3] = "0" if held_out(row[0], 1, 0.3) else row[3]
    path.write_text("\n".join(map(",".join, [head, *rows])) + "\n")


@pytest.mark.parametrize("names", [("east", "north", "south"), ("east", "north", "south", "west")])
def test_of_three_hospitals_nobody_adds_to_what_one_lacks_and_the_run_goes_on_as_in_a_simulation(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    few = len(names) == 3
    with circle(tmp_path, *names) as relay:
        without(relay["north"].mapping)
        prepare = {"numbers": "standardise", "missing": "impute", "hide_below": 5}
        wanted = secure("sums", contract=CONTRACT, prepare=prepare, rounds=1, quorum=len(names))
        plan = relay.approved(wanted)
        relay.paired(plan)
        for number, lacks, segment in ((1, "y", "prepare"), (2, "held-out", "metrics/n"), (3, "held-out", "metrics/n")):
            for phase in SEALED:
                assert set(relay.ask(plan, number, phase).values()) == {"done"}
                if phase == "READY":
                    said = {name: parsed(step_of(relay[name].sent(phase)[-1]), Ready).lacks for name in names}
                    assert said == {**dict.fromkeys(names, ()), "north": (lacks,)}
            relay.opened(plan, number)
            relay.closed(plan, number, names)
            total = chain.read(relay.blobs[relay.sums["sums-1", number].digest]).arrays
            assert bool(np.any(total[segment][-3:])) is not few
            assert np.any(total["prepare"][:3] if number == 1 else total["weight"]), "of what all have the sum is told"
        (tmp_path / "alone").mkdir()
        mapped, initial = {name: relay[name].mapping for name in names}, relay.blobs[relay.initial.digest]
        prepared = local.tables(plan.study, mapped, tmp_path / "alone")
        outcome = local.run(plan, initial, prepared, tmp_path / "alone", "sums-1")
        assert outcome.digest == relay.states["sums-1", 2].digest
        for name, array in chain.read(outcome.sums).arrays.items():
            assert np.array_equal(array, total[name]), name
        assert bool(outcome.figures["all"]) is not few and (outcome.figures["evaluation"] is None) is few


def test_who_says_nothing_of_what_it_lacks_is_in_no_sum_at_either_end() -> None:
    """An agent of before adds zeros without a word: counted as lacking nothing it would hide nobody."""
    said = {"ctx": "00", "site": "north", "nonce": "00", "own_hash": "00"}
    for body in ({**said, "lacks": []}, {**said, "lacks": ["age"]}):
        step = Step.model_construct(phase="READY", round=1, body=body)
        assert parsed(step, Ready) == steps.read(step) and list(parsed(step, Ready).lacks) == body["lacks"]
    silent = Step.model_construct(phase="READY", round=1, body=said)
    with pytest.raises(Refused, match="north runs a release of before") as refused:
        parsed(silent, Ready)
    assert (refused.value.reason, refused.value.remedy) == ("release", "ask north to update its agent")
    with pytest.raises(EnvelopeInvalid) as caught:
        steps.read(silent)
    assert caught.value.remedy == "update the agent"
    asked = Open(
        study="s", run="s-1", plan=digest(b""), roster=bytes(32), opening=0, round=1, attempt=1, kind="TRAIN",
        cohort=("north",), state=digest(b""), segments=(),
    )  # fmt: skip
    kept = {"coins": b"", "open": asked.encode(), "active": json.dumps([said]), "survivors": b"", "opened": 0}
    with pytest.raises(Refused, match="north runs a release of before"):  # it was updated between MASK and CONFIRM
        Seats(*[mock.Mock()] * 7)._sat(cast(Any, kept))


LIES = ("with-event",), ("x",), ("held-out", "held-out"), tuple(f"n{at}" for at in range(100_000))
"""What nobody lacks in a round of training of a study without times, or says twice."""


def test_who_says_to_lack_what_the_study_has_not_is_refused_by_name_and_alone(tmp_path: Path) -> None:
    """Any hospital stopped a study for ever: by "with-event" of a study without events, by names without end."""
    names = ("east", "north", "south", "west")
    with circle(tmp_path, *names) as relay:
        plan = relay.approved(secure("lies", contract=CONTRACT, quorum=3))
        relay.paired(plan)
        assert set(relay.ask(plan, 1, "READY").values()) == {"done"}
        said = step_of(relay["west"].sent("READY")[-1])
        steps.fits(SiteId("west"), said, "", plan.study)
        for lie in LIES:
            false = said.model_copy(update={"body": {**said.body, "lacks": list(lie)}})
            with pytest.raises(EnvelopeInvalid, match="west says"):
                steps.fits(SiteId("west"), false, "", plan.study)
        false = said.model_copy(update={"body": {**said.body, "lacks": list(LIES[0])}})
        envelope = seal(Step.TYPE, false.encode(), relay["west"].identity)
        relay.said["lies-1", 1, 1, "READY"]["west"] = json.loads(envelope)
        assert relay.ask(plan, 1, "MASK", names[:3]) == dict.fromkeys(names[:3], "roll-call")


def test_where_hospitals_change_places_what_one_of_them_lacks_is_not_what_hides_the_other(tmp_path: Path) -> None:
    """Five hospitals, four in a round: north is there for east. Nobody is alone in the difference of the two sums, but
    north holds out nobody with the outcome. So it shows how many of east's have it, and their scores.
    """
    names = ("east", "north", "south", "west", "young")
    before, after = (tuple(name for name in names if name != away) for away in ("north", "east"))
    with circle(tmp_path, *names) as relay:
        without(relay["north"].mapping)
        plan = relay.approved(secure("places", contract=CONTRACT, rounds=2, quorum=4))
        relay.paired(plan)
        relay.played(plan, 1, before)
        for name in names:
            relay[name].folder.policy_file.write_text(POLICY + "changing_rosters: refuse\n")
        assert set(relay.ask(plan, 2, "READY", after).values()) == {"done"}
        masked = relay.ask(plan, 2, "MASK", after)
        assert masked == {**dict.fromkeys(after, "rosters"), "north": "done"}, "who opened the first sum minds"
        for name in names:
            relay[name].folder.policy_file.write_text(POLICY)
        relay.played(plan, 2, after, attempt=2)
        first, second = (chain.read(relay.blobs[relay.sums["places-1", of].digest]).arrays for of in (1, 2))
        shown = np.sum(first["metrics/positives"]) - np.sum(second["metrics/positives"])
        _, *rows = csv.reader(io.StringIO((relay["east"].mapping.parent / "table.csv").read_text()))
        alone = sum(row[3] == "1" for row in rows if held_out(row[0], 1, 0.3))
        assert alone > 0 and shown == pytest.approx(alone), "what it shows where nobody minds"
        for name in set(before) & set(after):
            (told,) = (json.loads(one)["body"] for one in relay[name].journal.entries() if b'"solved"' in one)
            assert (told["sites"], told["parts"]) == (["east"], ["held-out"])
