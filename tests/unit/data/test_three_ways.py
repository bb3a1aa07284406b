"""One contract at a FHIR, an OMOP and a CSV hospital with units and codes of their own: the table is the direct one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consilium.core.study import Plan, Study
from consilium.data import quality
from consilium.simulation.scenario import Wanted, simulate
from consilium.site import tables
from unit.data import icu
from unit.data.icu import Stay

pytestmark = pytest.mark.skipif(not icu.DATA.is_dir(), reason="the eICU demo is not here")
REGIONS = ("Midwest", "South", "West")


@pytest.fixture(scope="module")
def stays() -> dict[str, list[Stay]]:
    return icu.stays(*REGIONS)


@pytest.fixture(scope="module")
def study() -> Study:
    made = Study.model_validate({
        "consilium": 1, "name": "icu", "title": "icu", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": icu.CONTRACT, "model": {"kind": "logistic"}, "rounds": 3, "quorum": 3, "min_patients": 20,
        "training": {"epochs": 2, "learning_rate": 0.5, "seed": 1}, "gate": {},
    })  # fmt: skip
    return Plan.load(Plan.of(made).payload).study


def out(mine: list[Stay]) -> frozenset[int]:
    """Every seventeenth patient does not want to be in it."""
    return frozenset(sorted({stay.patient for stay in mine})[::17])


HOSPITALS: dict[str, Callable[[Path, list[Stay], frozenset[int]], Path]] = {
    "Midwest": icu.fhir_hospital,
    "South": icu.omop_hospital,
    "West": lambda folder, mine, away: icu.csv_hospital(folder, mine, away, own=True),
}


def hospitals(folder: Path, stays: dict[str, list[Stay]], study: Study) -> tuple[dict[str, Path], dict[str, Path]]:
    """Mappings of hospitals with formats, codes and units of their own, and of CSV hospitals with the contract's.

    All give the table that was computed apart from the product, value by value, and leave out whom it leaves out.
    """
    own, plain = {}, {}
    for region, mine in stays.items():
        away = out(mine)
        own[region] = HOSPITALS[region](folder / f"own-{region}", mine, away)
        plain[region] = icu.csv_hospital(folder / f"plain-{region}", mine, away, own=False)
        keys, rows, left = icu.direct(mine, away)
        for path in (own[region], plain[region]):
            found = tables.mapped(study, path)
            assert vars(found.left) == left and len(found.table.label) == len(keys)
            wanted = {name: [np.nan if row[name] is None else row[name] for row in rows] for name in rows[0]}
            for name, values in found.table.columns.items():
                np.testing.assert_array_equal(values, wanted[name], err_msg=f"{region} {path.parent.name} {name}")
            np.testing.assert_array_equal(found.table.label, wanted["died"])
            assert not any(found.features[name].unmapped for name in icu.CODES)
    return own, plain


def test_some_stays_are_the_same_table_value_by_value_at_each_kind_of_hospital(
    stays: dict[str, list[Stay]], study: Study, tmp_path: Path
) -> None:
    hospitals(tmp_path, {region: mine[:60] for region, mine in stays.items()}, study)


@pytest.mark.long
def test_the_same_contract_gives_the_same_table_value_by_value_and_the_same_run_byte_by_byte(
    stays: dict[str, list[Stay]], study: Study, tmp_path: Path
) -> None:
    for mine in stays.values():
        _, rows, left = icu.direct(mine, out(mine))
        assert len(rows) > 250 and min(left["opted_out"], left["other_entries"], left["immature"]) > 5
    both = hospitals(tmp_path, stays, study)
    for path in (path for mappings in both for path in mappings.values()):
        found = tables.mapped(study, path)
        assert quality.check(study, found).usable
        assert all(found.features[name].usable > 100 for name in icu.CODES)
    runs = [simulate(study, mappings, Wanted(), lambda told: None) for mappings in both]
    assert runs[0].model == runs[1].model and runs[0].outcome.digest == runs[1].outcome.digest
