"""What a hospital has nothing of stands in its READY; to that nobody adds anything where too few others have some."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.data.cohort import held_out
from consilium.privacy.secagg import Ready
from consilium.simulation import local
from consilium.site.steps import parsed
from unit.site.circle import SEALED, circle, secure, step_of

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
