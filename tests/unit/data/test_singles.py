"""Single patients are shown as the table has them, with what stands in the source, and others as left out, and why."""

import numpy as np
import pytest

from consilium.core.study import Study
from consilium.data import contract
from consilium.data.contract import Made
from consilium.data.mapping import Mapping
from consilium.data.records import Records
from consilium.data.singles import YES, Singles
from unit.data import test_records
from unit.data.conftest import MAPPING, rows

SOURCE = rows(
    ("007", "50", "5.5", "98.6", "1", "1"),
    (" k2 ", "61", "-9", "", "2", "0"),
    ("k3", "", "7", "100", "2", "0"),
    ("k4", "70", "abc", "98.6", "9", None),
    ("k5", "44", "4", "97", "1", "0"),
)
PLACES = {"age": "AGE", "glucose": "GLUC", "temp": "TEMP", "sex": "SEX", "sick": "SICK"}


def seen(study: Study, singles: Singles) -> Made:
    made: list[Made] = []

    def look(one: Made) -> None:
        made.append(one)
        singles(one)

    mapping = Mapping.model_validate(MAPPING)
    found = contract.apply(mapping, study.contract, study.evaluation, SOURCE, look=look)
    for name, values in found.table.columns.items():
        np.testing.assert_array_equal(made[0].columns[name][made[0].kept], values)
    return made[0]


def test_every_row_is_shown_as_it_stands_there_and_as_it_was_mapped(study: Study) -> None:
    singles = Singles(count=99)
    made = seen(study, singles)
    assert len(singles.lines) == len(SOURCE) * (1 + len(PLACES))
    for patient, what, column, given, mapped in singles.lines:
        row = made.patients.index(patient)
        if not what:
            assert (mapped == YES) == bool(made.kept[row]) and mapped.startswith((YES, "left out: without"))
            continue
        assert column == PLACES[what] and given == (SOURCE.columns[column][row] or "")
        value = float(made.columns[what][row]) if what != "sick" else float(made.label[row])
        if np.isnan(value):
            assert not mapped
        elif what == "sex":
            assert mapped == ("female", "male")[int(value)]
        else:
            assert float(mapped.split(" ")[0]) == pytest.approx(value, rel=1e-5)
    assert ("007", "glucose", "GLUC", "5.5", "99.088 mg/dL") in singles.lines
    assert ("k4", "", "", "", "left out: without the label") in singles.lines


def test_patients_are_found_by_their_keys_however_these_are_written_and_others_are_counted(study: Study) -> None:
    singles = Singles(keys=("7.0", "k2", "k2 ", "nobody"))
    seen(study, singles)
    assert list(dict.fromkeys(line[0] for line in singles.lines)) == ["007", "k2"] and singles.unknown == 1


@pytest.mark.parametrize("others", [0, 12])
def test_of_records_those_are_shown_of_which_a_value_was_made(study: Study, others: int) -> None:
    mapping, moments = Mapping.model_validate(test_records.MAPPING), [1, 2, 99, 3]
    found = [(hour, "2160-0" if hour != 2 else "x", str(hour), "mg/dL") for hour in moments]
    labs = test_records.labs(*found, *[(4.0, "KREA", "0.5", "mg/dL")] * others)
    table = Records(mapping.records["labs"], labs, "records.labs")
    main, singles = test_records.stays(*test_records.ONE, ("q", test_records.INDEX.isoformat(), "0")), Singles(count=2)
    contract.apply(mapping, test_records.made(), study.evaluation, main, {"labs": table}, look=singles)
    (shown,) = (line for line in singles.lines if line[:2] == ("p", "crea"))
    begins = "2030-05-01T13:00:00 2160-0 1 mg/dL; 2030-05-01T15:00:00 2160-0 3 mg/dL"
    assert shown[2::2] == ("records.labs", "3 mg/dL") and shown[3].startswith(begins), "not another code, or too late"
    assert (shown[3] == begins) == (not others) and shown[3].endswith("; and 4 more") == bool(others)
    assert ("q", "crea", "records.labs", "", "") in singles.lines


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_many_are_shown_and_each_time_the_same(study: Study, count: int) -> None:
    one, other = Singles(count=count), Singles(count=count)
    seen(study, one)
    seen(study, other)
    assert one.lines == other.lines and len({line[0] for line in one.lines}) == count
