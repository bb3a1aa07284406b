"""What is proposed is right where it is sure, says where it is not, and holds no value of a patient."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from consilium import studyfile, yamlfile
from consilium.core.contract import Contract
from consilium.core.errors import MappingInvalid
from consilium.core.judging import Evaluation
from consilium.data import contract as applied
from consilium.data.base import Rows
from consilium.data.mapping import FeatureMap, Mapping, load
from consilium.data.proposal.assignment import assigned
from consilium.data.proposal.document import document, feature
from consilium.data.proposal.propose import Confidence, Proposals, propose, with_column
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource

HEART = Path(__file__).parents[4] / "shared/data/heart_disease"
EICU = Path(__file__).parents[4] / "shared/data/eicu_demo"
SHIPPED = Path(studyfile.__file__).parent / "examples/heart_disease"
NAMES = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal")
LEAST = 10


def number(name: str, meaning: str, unit: str, low: float, high: float) -> dict[str, Any]:
    return {"id": name, "meaning": meaning, "type": "number", "unit": unit, "range": [low, high]}


def answer(name: str, meaning: str) -> dict[str, Any]:
    return {"id": name, "meaning": meaning, "type": "category", "categories": {"no": "no", "yes": "yes"}}


SEX = {"id": "sex", "meaning": "sex", "type": "category", "categories": {"female": "female", "male": "male"}}


def contract(*features: dict[str, Any], **label: Any) -> Contract:
    told = {"id": "died", "meaning": "died in hospital", "type": "binary", **label}
    return Contract.model_validate({"id": "c", "features": list(features), "label": told})


CONTRACT = contract(
    number("age", "age at admission", "a", 18, 110), SEX, number("glu", "highest blood glucose", "mg/dL", 30, 900),
    number("temp", "body temperature", "Cel", 30, 43), number("sbp", "systolic blood pressure", "mm[Hg]", 50, 260),
    answer("smoker", "current smoker"),
)  # fmt: skip
SOURCE = TableSource(type="csv", path="table.csv")


def written(of: Proposals, wanted: Contract) -> str:
    return document(of, wanted, SOURCE, "table.csv")


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_columns_are_given_out_as_scipy_gives_them_out(rows: int, columns: int, seed: int) -> None:
    worth = np.random.default_rng(seed).random((rows, columns)).round(2)
    worth[worth < 0.4] = 0
    found = assigned(worth)
    given_out = [(row, column) for row, column in enumerate(found) if column is not None]
    assert len({column for _, column in given_out}) == len(given_out) and all(worth[at] > 0 for at in given_out)
    assert sum(worth[at] for at in given_out) == pytest.approx(worth[linear_sum_assignment(worth, maximize=True)].sum())


def spelt(draw: Callable[[Any], Any]) -> tuple[Rows, dict[str, list[float]]]:
    """Eighty patients as one hospital or another writes them; and the same as the contract means them."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    count, nan = 80, float("nan")
    true: dict[str, list[float]] = {
        "age": [float(rng.randint(30, 80)) for _ in range(count)],
        "sex": [float(rng.random() < 0.5) for _ in range(count)],
        "glu": [round(min(220.0, max(60.0, rng.gauss(130, 25))), 1) for _ in range(count)],
        "temp": [round(rng.gauss(37.2, 0.7), 1) for _ in range(count)],
        "sbp": [float(round(rng.gauss(130, 15))) for _ in range(count)],
        "smoker": [float(rng.random() < 0.4) for _ in range(count)],
        "died": [float(rng.random() < 0.3) for _ in range(count)],
    }
    pick = lambda *choices: draw(st.sampled_from(choices))  # noqa: E731
    convert = {
        "age": pick(("AGE", 1, 0), ("Alter", 1, 0), ("age_years", 1, 0), ("alter_monate", 12, 0)),
        "glu": pick(("Glucose", 1, 0), ("BZ_max", 1 / 18.016, 0), ("glucose_mmol_l", 1 / 18.016, 0), ("Gluk", 0.01, 0)),
        "temp": pick(("Temp", 1, 0), ("temperature", 1.8, 32), ("KoerperTemp", 1, 0), ("temp_f", 1.8, 32)),
        "sbp": pick(("SBP", 1, 0), ("sysBP", 1, 0), ("BP_sys", 0.133322387415, 0), ("Blutdruck syst.", 1, 0)),
    }
    coded = {
        "sex": pick(("Geschlecht", "w", "m"), ("SEX", "F", "M"), ("gender", "Female", "Male"), ("sexe", "2", "1")),
        "smoker": pick(("Raucher", "nein", "ja"), ("smoking", "N", "Y"), ("SMOKER", "0", "1"), ("smokes", "no", "yes")),
        "died": pick(("died", "0", "1"), ("status", "Alive", "Expired"), ("verstorben", "Nein", "Ja"),
                     ("death", "False", "True")),
    }  # fmt: skip
    columns: dict[str, list[str | None]] = {"PatNr": [str(10_000 + row) for row in range(count)]}
    for name, (column, factor, offset) in convert.items():
        columns[column] = [repr(value * factor + offset) for value in true[name]]
    for name, (column, negative, positive) in coded.items():
        columns[column] = [positive if value else negative for value in true[name]]
    columns["ward"] = [rng.choice(("A", "B", "C")) for _ in range(count)]
    columns["dBP"] = [str(round(rng.gauss(80, 10))) for _ in range(count)]
    glucose, missing = columns[convert["glu"][0]], draw(st.sampled_from(("-1", "?", "9999", "")))
    for row in range(0, count, 7):
        glucose[row], true["glu"][row] = missing, nan
    order = draw(st.permutations(list(columns)))
    return Rows({name: columns[name] for name in order}), true


def same_table(found: Mapping, rows: Rows, true: dict[str, list[float]]) -> None:
    """The mapping makes of the rows what they mean, value by value."""
    ready = found.model_copy(update={"unconfirmed": ()})
    made = applied.apply(ready, CONTRACT, Evaluation(), rows)
    for name, values in made.table.columns.items():
        np.testing.assert_allclose(values, true[name], rtol=1e-4, err_msg=name)
    assert list(made.table.label) == true["died"]


def the_same(data: Any) -> None:
    rows, true = spelt(data.draw)
    of = propose(CONTRACT, rows, LEAST)
    found = yamlfile.parse(written(of, CONTRACT), Mapping, MappingInvalid, "m")
    assert found.patient.column == "PatNr"
    same_table(found, rows, true)
    backwards = Rows(dict(reversed(rows.columns.items())))
    assert written(propose(CONTRACT, backwards, LEAST), CONTRACT) == written(of, CONTRACT)


@given(st.data())
@settings(max_examples=4)
def test_other_names_units_codes_and_orders_give_the_same_table(data: Any) -> None:
    the_same(data)


@pytest.mark.long
@given(st.data())
@settings(max_examples=150)
def test_other_names_units_codes_and_orders_give_the_same_table_often(data: Any) -> None:
    the_same(data)


def test_of_two_columns_that_are_alike_the_order_decides_nothing() -> None:
    ages = [str(20 + row % 60) for row in range(60)]
    columns = {"age_z": list(ages), "age_x": list(ages), "died": ["0", "1"] * 30}
    first, second = (
        propose(CONTRACT, Rows(dict(order)), LEAST) for order in (columns.items(), reversed(columns.items()))
    )
    assert written(first, CONTRACT) == written(second, CONTRACT)
    assert first.of[0].confidence != "high" and len(first.of[0].others) == 1, "the other one is told"


def heart(name: str, columns: tuple[str, ...]) -> Proposals:
    source = TableSource(type="csv", path=f"processed.{name}.data", header=False, columns=columns)
    wanted = studyfile.read(SHIPPED / "study.yaml").contract
    return propose(wanted, CsvSource(source, HEART).rows(), LEAST)


@pytest.mark.skipif(not HEART.is_dir(), reason="the raw files of UCI Heart Disease are not here")
@pytest.mark.parametrize(
    "name", ["va", *(pytest.param(one, marks=pytest.mark.long) for one in ("cleveland", "hungarian", "switzerland"))]
)
def test_raw_files_of_heart_disease(name: str, tmp_path: Path) -> None:
    """Against the mappings that we ship: no column, unit or code is wrong, and what cannot be told is left open."""
    wanted = studyfile.read(SHIPPED / "study.yaml").contract
    shipped = load(SHIPPED / f"{name}.yaml", wanted)
    of = heart(name, (*NAMES, "num"))
    assert of.key == "" and set(of.missing) <= {"?"}
    for one in of.of[:-1]:
        meant, made = shipped.features[one.want.id], feature(one)
        if not isinstance(meant, FeatureMap):
            assert made == meant == "absent"
            continue
        assert made["column"] == meant.column and made.get("unit") == meant.unit
        assert made.get("codes", {}).items() <= (meant.codes or {}).items()
        assert made.get("missing", []) == list(meant.missing)
        coded = made.get("codes", {}) != (meant.codes or {}) or one.want.id in ("sex", "cp", "restecg")
        assert one.confidence == ("low" if coded else "high")
        assert bool(one.open) == (made.get("codes") is not None and made["codes"] != meant.codes)
    label = of.of[-1]
    assert label.chosen is None and "num" in [one.column for one in label.others]
    assert yamlfile.parse(written(of, wanted), Mapping, MappingInvalid, "m").label.column == "TODO"


@pytest.mark.skipif(not HEART.is_dir(), reason="the raw files of UCI Heart Disease are not here")
def test_columns_without_names_are_hardly_proposed_and_never_surely() -> None:
    names = tuple(f"column_{number:02}" for number in range(1, 15))
    of = heart("va", names)
    right = dict(zip(NAMES, names))
    proposed = {one.want.id: one.chosen.column for one in of.of if one.chosen is not None}
    assert all(one.confidence in ("low", "none") for one in of.of)
    assert proposed.items() <= right.items() and "disease" not in proposed


@pytest.mark.long
@pytest.mark.skipif(not EICU.is_dir(), reason="the tables of eICU are not here")
def test_tables_of_intensive_care_by_their_own_names() -> None:
    """Ninety columns of eICU, twenty-two features in other units, and two that are not there."""
    import duckdb

    files = [f"read_csv('{EICU}/{name}.csv.gz', all_varchar=true)" for name in
             ("apacheApsVar", "patient", "apachePredVar")]  # fmt: skip
    asked = duckdb.sql(  # the files' names are ours
        f"SELECT * FROM {files[0]} AS a JOIN {files[1]} AS b USING (patientunitstayid) JOIN (SELECT * EXCLUDE "
        f"(creatinine, fio2, pao2, meds, verbal, motor, eyes, age, gender) FROM {files[2]}) USING (patientunitstayid)"
    )
    table = asked.fetchall()
    rows = Rows({name: [row[at] for row in table] for at, name in enumerate(asked.columns)})
    wanted: dict[str, tuple[dict[str, Any], tuple[str, str | None] | None]] = {
        one["id"]: (one, right)
        for one, right in (
            (number("age", "age at admission", "a", 18, 120), ("age", "a")),
            (SEX, ("gender", None)),
            (number("height", "body height", "cm", 100, 230), ("admissionheight", "cm")),
            (number("weight", "body weight at admission", "kg", 20, 300), ("admissionweight", "kg")),
            (number("hr", "heart rate", "/min", 20, 250), ("heartrate", "/min")),
            (number("map", "mean arterial blood pressure", "mm[Hg]", 20, 220), ("meanbp", "mm[Hg]")),
            (number("temp", "body temperature", "Cel", 28, 43), ("temperature", "Cel")),
            (number("rr", "respiratory rate", "/min", 3, 80), ("respiratoryrate", "/min")),
            (number("sodium", "serum sodium", "mmol/L", 100, 190), ("sodium", "mmol/L")),
            (number("crea", "serum creatinine", "umol/L", 8, 2200), ("creatinine", "mg/dL")),
            (number("wbc", "white blood cell count", "10*9/L", 0.1, 200), ("wbc", "10*9/L")),
            (number("hct", "haematocrit", "%", 10, 70), ("hematocrit", "%")),
            (number("glu", "blood glucose", "mmol/L", 1, 60), ("glucose", "mg/dL")),
            (number("bili", "total bilirubin", "umol/L", 1, 900), ("bilirubin", "mg/dL")),
            (number("alb", "serum albumin", "g/L", 5, 70), ("albumin", "g/dL")),
            (number("bun", "blood urea nitrogen", "mg/dL", 1, 250), ("bun", "mg/dL")),
            (number("ph", "arterial pH", "1", 6.5, 7.9), ("ph", "1")),
            (number("urine", "urine output of the first day", "mL", 0, 15000), ("urine", "mL")),
            (answer("diabetes", "known diabetes mellitus"), ("diabetes", None)),
            (answer("ventilated", "mechanical ventilation"), ("vent", None)),
            (answer("cirrhosis", "cirrhosis of the liver"), ("cirrhosis", None)),
            (answer("smoker", "current smoker"), None),
            (number("lactate", "blood lactate", "mmol/L", 0.1, 30), None),
        )
    }
    of = propose(contract(*(one for one, _ in wanted.values())), rows, LEAST)
    assert of.key == "patientunitstayid"
    for one in of.of[:-1]:
        made, right = feature(one), wanted[one.want.id][1]
        assert ("absent" if right is None else right) == (
            made if isinstance(made, str) else (made["column"], made.get("unit"))
        ), one
        if "admission" not in str(right) and isinstance(made, dict) and "unit" in made and made["column"] != "age":
            assert made["missing"] == ["-1"], "which stands there where nothing was measured"
    label = of.of[-1]
    assert label.chosen is not None and label.chosen.column == "diedinhospital"


def table(rows: list[dict[str, str]]) -> Rows:
    return Rows({name: [row[name] for row in rows] for name in rows[0]})


@given(st.lists(st.integers(1, 25), min_size=1, max_size=5), st.integers(0, 2**32))
@settings(max_examples=6)
def test_no_value_of_a_patient_and_no_code_of_few_is_told(counts: list[int], seed: int) -> None:
    """Codes are told from ten patients on; numbers never, whatever the columns are called."""
    rng = random.Random(seed)
    codes = [f"code{number}x" for number in range(len(counts)) for _ in range(counts[number])]
    rows = table([
        {"Alter": f"{rng.uniform(20, 80):.7f}", "Geschlecht": code, "died": rng.choice("01")} for code in codes
    ])  # fmt: skip
    of = propose(CONTRACT, rows, LEAST)
    told = written(of, CONTRACT) + repr([one.reasons for one in of.of])
    for number_, count in enumerate(counts):
        assert (f"code{number_}x" in told) == (count >= LEAST)
    assert not any(str(value) in told for value in rows.columns["Alter"])


def test_numbers_that_could_be_a_patient_are_no_codes_for_missing() -> None:
    """-9 and 0 are told, whoever has them; 77 is an age beyond the contract's range, unless many have it."""
    wanted = contract(number("age", "age", "a", 18, 70))

    def missing(odd: list[str]) -> list[str]:
        ages = [*(str(20 + row % 45) for row in range(90)), *odd]
        of = propose(
            wanted, Rows({"age": list(ages), "died": ["0", "1"] * (len(ages) // 2) + ["0"] * (len(ages) % 2)}), LEAST
        )
        return list(feature(of.of[0]).get("missing", []))

    assert missing(["-9", "0", "77"]) == ["-9", "0"]
    assert missing(["77"] * 10) == ["77"]


@given(st.text(min_size=1, max_size=12).filter(lambda name: name.strip()))
@settings(max_examples=6)
def test_a_column_may_be_called_anything(name: str) -> None:
    rows = Rows({name: [str(20 + row % 60) for row in range(60)], "died": ["0", "1"] * 30})
    wanted = contract(number("age", f"age {name if name.isprintable() else ''}", "a", 18, 110))
    found = yaml.safe_load(written(propose(wanted, rows, LEAST), wanted))
    assert found["features"]["age"] == "absent" or found["features"]["age"]["column"] == name


def test_a_time_to_event_is_proposed_with_its_time() -> None:
    wanted = contract(
        number("age", "age", "a", 18, 110),
        id="death", meaning="death from any cause", type="time-to-event", unit="d", range=[0, 4000],
    )  # fmt: skip
    rows = Rows({
        "Alter": [str(30 + row % 50) for row in range(60)], "OS_status": ["alive", "deceased"] * 30,
        "followup_months": [str(1 + row) for row in range(60)],
    })  # fmt: skip
    found = yaml.safe_load(written(propose(wanted, rows, LEAST), wanted))
    assert found["label"] == {
        "column": "OS_status", "codes": {"alive": 0, "deceased": 1},
        "time": {"column": "followup_months", "unit": "mo"},
    }  # fmt: skip


def test_where_nothing_fits_nothing_is_proposed() -> None:
    rows = Rows({"ward": ["A", "B"] * 30, "note": [f"text {row}" for row in range(60)]})
    of = propose(CONTRACT, rows, LEAST)
    assert all(one.chosen is None and one.confidence == "none" and one.open for one in of.of)
    found = yaml.safe_load(written(of, CONTRACT))
    assert set(found["features"].values()) == {"absent"} and found["label"] == {"column": "TODO"}
    assert found["unconfirmed"] == ["patient", *(f"features.{name}" for name in found["features"]), "label"]


def proposed(column: str, given_: dict[str, int], wanted: dict[str, Any] = SEX) -> tuple[Any, str, Confidence]:
    """Of a column in which so many patients have each code: its codes, what is left to do, and how sure it is."""
    cells = [code for code, count in given_.items() for _ in range(count)]
    rows = Rows({column: list(cells), "died": ["0", "1"] * (len(cells) // 2) + ["0"] * (len(cells) % 2)})
    one = propose(contract(wanted), rows, LEAST).of[0]
    made = feature(one)
    return made if isinstance(made, str) else made["codes"], one.open, one.confidence


LANGUAGES = [
    ("Geschlecht", "w", "m"), ("Geschlecht", "Weiblich", "Männlich"), ("geschlecht", "Frau", "Mann"),
    ("sexe", "F", "H"), ("sexe", "femme", "homme"), ("geslacht", "vrouw", "man"), ("sex", "kvinna", "man"),
    ("sex", "K", "M"), ("sexo", "M", "H"), ("sexo", "Mujer", "Hombre"), ("sexo", "mulher", "homem"),
    ("sesso", "femmina", "maschio"), ("gender", "kobieta", "mężczyzna"), ("gender", "žena", "muž"),
    ("gender", "Ž", "M"), ("gender", "nainen", "mies"), ("gender", "γυναίκα", "άνδρας"), ("gender", "жена", "мъж"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "woman", "man"), LANGUAGES)
def test_the_sexes_are_known_in_many_languages(column: str, woman: str, man: str) -> None:
    codes, left, _ = proposed(column, {man: 40, woman: 30})
    assert codes == {woman: "female", man: "male"} and left == ""


def test_letters_that_mean_either_are_proposed_with_a_warning() -> None:
    """V and M are woman and man in Dutch, and man and woman in Lithuanian."""
    assert proposed("sex", {"V": 40, "M": 40})[::2] == ({"V": "female", "M": "male"}, "low")
    assert proposed("sex", {"W": 40, "M": 40})[::2] == ({"W": "female", "M": "male"}, "high")


@pytest.mark.parametrize("rare", [0, 6])
@pytest.mark.parametrize(
    ("column", "there", "hidden_", "meant", "wanted"),
    [("geschlecht", "m", "w", "male", SEX), ("geschlecht", "w", "m", "female", SEX), ("SEX", "2", "1", "female", SEX),
     ("smoker", "nein", "ja", "no", answer("smoker", "current smoker")),
     ("smoker", "0", "1", "no", answer("smoker", "current smoker"))],
)  # fmt: skip
def test_a_code_that_is_not_there_is_never_proposed(
    column: str, there: str, hidden_: str, meant: str, wanted: dict[str, Any], rare: int
) -> None:
    """`f` was proposed for women where the table has `w` of a few patients: all of them were unmapped."""
    codes, left, confidence = proposed(column, {there: 70, hidden_: rare}, wanted)
    assert codes == {there: meant}
    if rare:
        lacking = next(one for one in wanted["categories"] if one != meant)
        assert left == f"say which code means {lacking}; codes of few patients are not shown" and confidence == "low"


@pytest.mark.parametrize("day", ["", "-07-14"])
@pytest.mark.parametrize(("column", "told"), [("Geburtsjahr", True), ("birth_year", True), ("column_7", False)])
def test_years_and_dates_of_birth_are_no_age_and_the_column_is_told_with_what_to_do(
    column: str, told: bool, day: str
) -> None:
    wanted = contract(number("age", "age at visit", "a", 18, 110))
    rows = Rows({column: [f"{1925 + row % 60}{day}" for row in range(80)], "died": ["0", "1"] * 40})
    of = propose(wanted, rows, LEAST)
    assert feature(of.of[0]) == "absent"
    assert (f"{column} holds years or days of the calendar: compute it" in written(of, wanted)) is told
    chosen = with_column(of, "features.age", column, LEAST).of[0]
    assert feature(chosen)["unit"] == "a" and chosen.confidence == "low" and "no unit mends" in " ".join(chosen.reasons)


def test_a_column_of_numbers_with_commas_is_told_and_not_called_absent_without_a_word() -> None:
    wanted = contract(number("age", "age at visit", "a", 18, 110))
    rows = Rows({"Alter": [f"{25 + row % 60},5" for row in range(80)], "died": ["0", "1"] * 40})
    of = propose(wanted, rows, LEAST)
    assert feature(of.of[0]) == "absent" and "Alter is named so, and has numbers with a comma" in written(of, wanted)
    chosen = with_column(of, "features.age", "Alter", LEAST).of[0]
    assert chosen.confidence == "low" and "a comma" in " ".join(chosen.reasons)


def test_no_unit_is_proposed_that_nobody_writes_an_age_in() -> None:
    wanted = contract(number("age", "age at visit", "a", 18, 110))
    weeks = Rows({"age": [f"{1000.5 + 45 * row}" for row in range(80)], "died": ["0", "1"] * 40})
    assert "wk" not in written(propose(wanted, weeks, LEAST), wanted)


def test_of_a_label_that_no_name_says_every_column_is_told() -> None:
    """One column of the view, with grades from 0 to 4, was left out: three others were as likely."""
    rng = random.Random(2)
    columns = {f"befund_{letter}": [rng.choice("01") for _ in range(80)] for letter in "abcd"}
    columns |= {"alter": [str(30 + row % 50) for row in range(80)], "grad": [rng.choice("01234") for _ in range(80)]}
    wanted = contract(number("age", "age", "a", 18, 110), id="stenosis", meaning="a vessel is narrowed", type="binary")
    label = propose(wanted, Rows({name: list(cells) for name, cells in columns.items()}), LEAST).of[-1]
    assert label.chosen is None and {one.column for one in label.others} == columns.keys() - {"alter"}


QUERY = "\n    SELECT nr, 'a: #b' AS a,\n\n      max(v) AS v -- the \"most\"\n    FROM t\n      GROUP BY nr\n"


@pytest.mark.parametrize(
    "query", [QUERY, "SELECT 1", "SELECT nr\nFROM t", "SELECT '\x07',\n nr FROM t", "- SELECT:\n1"]
)
def test_a_query_is_written_in_the_lines_that_it_has(query: str) -> None:
    wanted = contract(number("age", "age", "a", 18, 110))
    of = propose(wanted, Rows({"age": [str(20 + row) for row in range(60)], "died": ["0", "1"] * 30}), LEAST)
    text = document(of, wanted, TableSource(type="sql", url="sqlite:///t.db", query=query), "t")
    read = yamlfile.parse(text, Mapping, MappingInvalid, "m.yaml").source
    assert " ".join(str(read.query).split()) == " ".join(query.split()) and read.url == "sqlite:///t.db"
    assert ("\\U0000000a" in text) is ("\x07" in query)
    assert ('max(v) AS v -- the "most"\n' in text) is (query == QUERY)
