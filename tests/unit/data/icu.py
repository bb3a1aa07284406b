"""Real stays in intensive care (eICU demo 2.0.1) as hospitals have them: FHIR, OMOP, CSV; and the table they come to.

What each stay's row is under the contract is computed here from eICU's own columns, by none of the product's code.
"""

import csv
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import duckdb

from consilium.core.contract import Contract
from consilium.data import compiled

DATA = Path(__file__).parents[4] / "shared/data/eicu_demo"
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
AS_OF, MATURITY = datetime(2015, 12, 31), timedelta(days=30)
WINDOWS = {"creatinine": (0, 24), "glucose": (-6, 24), "pressure": (0, 6), "temperature": (0, 24)}
TAKES = {"creatinine": max, "glucose": None, "pressure": min, "temperature": max}
CODES = {
    "creatinine": ("2160-0",),
    "glucose": ("2345-7", "2339-0"),
    "pressure": ("8478-4",),
    "temperature": ("8310-5",),
}
UNITS = {"creatinine": "mg/dL", "glucose": "mg/dL", "pressure": "mm[Hg]", "temperature": "Cel"}
DIGITS = {"creatinine": 2, "glucose": 0, "pressure": 0, "temperature": 1}
RANGES = {"creatinine": (0.1, 25), "glucose": (20, 1000), "pressure": (20, 200), "temperature": (30, 43)}
CONTRACT: dict[str, Any] = {
    "id": "icu", "version": 2,
    "index": {"meaning": "admission to intensive care", "entry": "first"},
    "exclude": [{"feature": "age", "below": 18}],
    "features": [
        {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [0, 120], "resolution": 1},
        {"id": "sex", "meaning": "sex", "type": "category", "categories": {"female": "female", "male": "male"}},
        *(
            {
                "id": name, "meaning": name, "type": "number", "unit": UNITS[name], "range": list(RANGES[name]),
                "resolution": 10.0 ** -DIGITS[name], "codes": [{"system": LOINC, "code": code} for code in CODES[name]],
                "window": [f"{WINDOWS[name][0]}h", f"{WINDOWS[name][1]}h"],
                "aggregate": {max: "max", min: "min", None: "mean"}[TAKES[name]],
                **({"analyte": name} if name in ("creatinine", "glucose") else {}),
            }
            for name in CODES
        ),
    ],
    "label": {"id": "died", "meaning": "died in hospital", "type": "binary", "maturity_days": MATURITY.days},
}  # fmt: skip


@dataclass
class Record:
    """One measurement: what, minutes after admission, and the value as eICU has it, in the contract's unit."""

    name: str
    code: str
    minutes: int
    value: float


@dataclass
class Stay:
    """One stay of a patient, whose key is a number in all hospitals."""

    patient: int
    number: int
    admitted: datetime
    age: int | None
    sex: str
    died: str
    records: list[Record] = field(default_factory=list)


def _table(name: str) -> Iterator[dict[str, str]]:
    path = DATA / name
    file: TextIO
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:  # type: ignore[assignment]
        yield from csv.DictReader(file)


def stays(*regions: str) -> dict[str, list[Stay]]:
    """Stays by region, of patients of whom APACHE has values."""
    region = {row["hospitalid"]: row["region"] for row in _table("hospital.csv.gz")}
    apache = {row["patientunitstayid"]: row for row in _table("apacheApsVar.csv.gz")}
    found: dict[str, Stay] = {}
    where: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for row in _table("patient.csv.gz"):
        of, key = region[row["hospitalid"]], row["patientunitstayid"]
        if of not in regions or key not in apache:
            continue
        # The data set has times of day and no dates: each patient gets a day of the year, and later stays later ones.
        day = int(hashlib.sha256(row["uniquepid"].encode()).hexdigest()[:8], 16) % 362
        admitted = datetime.fromisoformat(f"2015-01-01T{row['unitadmittime24']}") + timedelta(days=day)
        admitted += timedelta(days=5 * seen[row["uniquepid"]])
        seen[row["uniquepid"]] += 1
        patient = int(row["uniquepid"].replace("-", ""))
        age = int(row["age"]) if row["age"].isdigit() else None
        found[key] = Stay(patient, int(key), admitted, age, row["gender"], row["hospitaldischargestatus"])
        where[key] = of
        for name, column in (("creatinine", "creatinine"), ("glucose", "glucose"), ("temperature", "temperature")):
            if float(apache[key][column]) != -1:
                _add(found[key], name, CODES[name][0], 600, float(apache[key][column]))
    for row in _table("lab_subset_pyhealth.csv"):
        names = {"creatinine": ("creatinine", 0), "glucose": ("glucose", 0), "bedside glucose": ("glucose", 1)}
        if row["patientunitstayid"] in found and row["labname"] in names and row["labresult"]:
            name, number = names[row["labname"]]
            offset, value = int(row["labresultoffset"]), float(row["labresult"])
            _add(found[row["patientunitstayid"]], name, CODES[name][number], offset, value)
    for row in _table("vitalAperiodic.csv.gz"):
        offset = int(row["observationoffset"])
        if row["patientunitstayid"] in found and row["noninvasivemean"] and -60 <= offset <= 600:
            pressure = float(row["noninvasivemean"])
            _add(found[row["patientunitstayid"]], "pressure", CODES["pressure"][0], offset, pressure)
    by_region: dict[str, list[Stay]] = {name: [] for name in regions}
    for key, stay in found.items():
        by_region[where[key]].append(stay)
    return by_region


def _add(stay: Stay, name: str, code: str, minutes: int, value: float) -> None:
    stay.records.append(Record(name, code, minutes, round(value, DIGITS[name])))


def direct(mine: list[Stay], out: frozenset[int]) -> tuple[list[str], list[dict[str, float | None]], dict[str, int]]:
    """The rows that the contract means, in the order of the patients' keys as text; and who was left out."""
    first: dict[int, Stay] = {}
    ever: dict[int, list[tuple[datetime, Record]]] = defaultdict(list)
    for stay in mine:
        ever[stay.patient] += [(stay.admitted + timedelta(minutes=one.minutes), one) for one in stay.records]
        if stay.patient not in out and (stay.patient not in first or stay.admitted < first[stay.patient].admitted):
            first[stay.patient] = stay
    names = ("opted_out", "other_entries", "immature", "excluded", "unordered", "unsolved")
    keys, rows, left = [], [], dict.fromkeys(names, 0)
    left["opted_out"] = len({stay.patient for stay in mine} & out)
    left["other_entries"] = sum(stay.patient not in out for stay in mine) - len(first)
    for stay in sorted(first.values(), key=lambda one: str(one.patient)):
        if AS_OF + timedelta(days=1) - stay.admitted <= MATURITY:
            left["immature"] += 1
        elif stay.age is not None and stay.age < 18:
            left["excluded"] += 1
        elif stay.died:
            keys.append(str(stay.patient))
            rows.append(_row(stay, ever[stay.patient]))
    return keys, rows, left


def _row(stay: Stay, records: list[tuple[datetime, Record]]) -> dict[str, float | None]:
    row: dict[str, float | None] = {
        "age": stay.age, "sex": {"Female": 0.0, "Male": 1.0}.get(stay.sex), "died": float(stay.died == "Expired"),
    }  # fmt: skip
    for name, (begins, ends) in WINDOWS.items():
        low, high = RANGES[name]
        first, last = (stay.admitted + timedelta(hours=hours) for hours in (begins, ends))
        values = [
            one.value for when, one in records
            if one.name == name and first <= when <= last and low <= one.value <= high
        ]  # fmt: skip
        take = TAKES[name]
        row[name] = None if not values else take(values) if take else float(round(sum(values) / len(values)))
    return row


# hospitals


def molar(name: str, value: float) -> float:
    """Creatinine in umol/L, glucose in mmol/L; both with the digits that laboratories give."""
    return round(value * 1e4 / 113.12, 2) if name == "creatinine" else round(value / 18.016, 3)


def _mapping(folder: Path, main: dict[str, Any], records: dict[str, Any], local: dict[str, list[str]],
             label: dict[str, float], sex: dict[str, str], out: frozenset[int]) -> Path:  # fmt: skip
    (folder / "opted-out.txt").write_text("# keys of the hospital\n" + "\n".join(map(str, sorted(out))) + "\n")
    mapping = {
        "mapping": 1, "contract": "icu", "source": main, "patient": {"column": "patient"},
        "index": {"column": "admitted"}, "as_of": f"{AS_OF:%Y-%m-%d}", "opt_out": {"path": "opted-out.txt"},
        "records": {"values": records},
        "features": {
            "age": {"column": "age", "unit": "a"}, "sex": {"column": "sex", "codes": sex},
            **{name: {"records": "values", "local": local.get(name, [])} for name in CODES},
        },
        "label": {"column": "died", "codes": label},
    }  # fmt: skip
    path = folder / "mapping.yaml"
    path.write_text(json.dumps(mapping))  # JSON is YAML
    return path


def csv_hospital(folder: Path, mine: list[Stay], out: frozenset[int], own: bool) -> Path:
    """Two CSV files; `own`: with codes and units of its own; else as the contract has them."""
    folder.mkdir()
    names = {"creatinine": "KREA", "glucose": "GLUK", "pressure": "RR-M", "temperature": "TEMP"}
    with (folder / "stays.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "admitted", "age", "sex", "died"])
        for stay in mine:
            age = "" if stay.age is None else stay.age
            writer.writerow([stay.patient, stay.admitted.isoformat(), age, stay.sex, stay.died])
    with (folder / "values.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "when", "code", "value", "unit"])
        for stay in mine:
            for one in reversed(stay.records):
                when = str((stay.admitted + timedelta(minutes=one.minutes)).isoformat())
                if not own:
                    writer.writerow([stay.patient, when, one.code, one.value, UNITS[one.name]])
                elif one.name in ("creatinine", "glucose"):
                    unit = "µmol/l" if one.name == "creatinine" else "mmol/l"
                    writer.writerow([stay.patient, when, names[one.name], molar(one.name, one.value), unit])
                else:
                    kpa = round(one.value * 0.133322387415, 4)
                    value, unit = (kpa, "kPa") if one.name == "pressure" else (one.value, "°C")
                    writer.writerow([stay.patient, when, names[one.name], value, unit])
    records: dict[str, Any] = {
        "source": {"type": "csv", "path": "values.csv"}, "patient": "patient", "code": "code", "time": "when",
        "value": "value", "unit": "unit", "units": {"µmol/l": "umol/L", "mmol/l": "mmol/L"},
    }  # fmt: skip
    local = {name: [code] for name, code in names.items()} if own else {}
    sex, label = {"Female": "female", "Male": "male"}, {"Alive": 0.0, "Expired": 1.0}
    return _mapping(folder, {"type": "csv", "path": "stays.csv"}, records, local, label, sex, out)


def fhir_hospital(folder: Path, mine: list[Stay], out: frozenset[int]) -> Path:
    """Patients, Encounters and Observations as NDJSON, with LOINC, and amounts in place of masses."""
    folder.mkdir()
    (folder / "export").mkdir()
    patients: dict[int, dict[str, Any]] = {}
    encounters, observations = [], []
    for stay in mine:
        person: dict[str, Any] = {"resourceType": "Patient", "id": str(stay.patient)}
        person |= {"gender": stay.sex.lower()} if stay.sex else {}
        patients[stay.patient] = person
        ends = {"Expired": "exp", "Alive": "home"}
        extension = [{"url": "urn:age", "valueInteger": stay.age}] if stay.age is not None else []
        encounters.append({
            "resourceType": "Encounter", "id": str(stay.number), "status": "finished", "extension": extension,
            "subject": {"reference": f"Patient/{stay.patient}"},
            "period": {"start": f"{stay.admitted.isoformat()}+01:00"},
            "hospitalization": {"dischargeDisposition": {"coding": [{"code": ends[stay.died]}] if stay.died else [{}]}},
        })  # fmt: skip
        for number, one in enumerate(stay.records):
            unit = {"creatinine": "umol/L", "glucose": "mmol/L"}.get(one.name, UNITS[one.name])
            value = molar(one.name, one.value) if one.name in ("creatinine", "glucose") else one.value
            when = stay.admitted + timedelta(minutes=one.minutes)
            observations.append({
                "resourceType": "Observation", "id": f"{stay.number}-{number}", "status": "final",
                "code": {"coding": [{"system": LOINC, "code": one.code}]},
                "subject": {"reference": f"Patient/{stay.patient}"}, "effectiveDateTime": f"{when.isoformat()}+01:00",
                "valueQuantity": {"value": value, "system": UCUM, "code": unit},
            })  # fmt: skip
    for name, resources in (("Patient", patients.values()), ("Encounter", encounters), ("Observation", observations)):
        (folder / "export" / f"{name}.ndjson").write_text("\n".join(map(json.dumps, resources)) + "\n")
    views = {
        "people": ("Patient", {"patient": "getResourceKey()", "sex": "gender"}),
        "stays": ("Encounter", {
            "patient": "subject.getReferenceKey(Patient)", "admitted": "period.start",
            "age": "extension('urn:age').value.ofType(integer)",
            "died": "hospitalization.dischargeDisposition.coding.first().code",
        }),
    }  # fmt: skip
    for name, (resource, columns) in views.items():
        kinds = {"value": {"type": "decimal"}, "age": {"type": "integer"}}
        column = [{"name": key, "path": path, **kinds.get(key, {})} for key, path in columns.items()]
        view = {"resource": resource, "select": [{"column": column}]}
        (folder / f"{name}.json").write_text(json.dumps(view))
    (folder / "values.json").write_text(json.dumps(compiled.view(Contract.model_validate(CONTRACT))))
    main = {
        "type": "fhir", "path": "export", "views": {"people": "people.json", "stays": "stays.json"},
        "query": "SELECT * FROM stays JOIN people USING (patient)",
    }  # fmt: skip
    records = {
        "source": {"type": "fhir", "path": "export", "views": {"values": "values.json"}}, "patient": "patient",
        "code": "code", "system": "system", "time": "taken", "value": "value", "unit": "unit",
    }  # fmt: skip
    return _mapping(folder, main, records, {}, {"home": 0.0, "exp": 1.0}, {"female": "female", "male": "male"}, out)


def omop_hospital(folder: Path, mine: list[Stay], out: frozenset[int]) -> Path:
    """OMOP CDM 5.4 in a DuckDB file, with temperatures in Fahrenheit, and its vocabulary for codes and units."""
    folder.mkdir()
    loinc = {code: 3_000_000 + n for n, code in enumerate(sum(CODES.values(), ()))}
    units = {"mg/dL": 8840, "mm[Hg]": 8876, "[degF]": 9289}
    concepts = [(number, "LOINC", code) for code, number in loinc.items()]
    concepts += [(number, "UCUM", code) for code, number in units.items()]
    people, visits, values = dict[int, tuple[int, int, int | None]](), [], []
    for stay in sorted(mine, key=lambda one: one.admitted, reverse=True):  # ages are those of each patient's first stay
        born = None if stay.age is None else stay.admitted.year - stay.age
        people[stay.patient] = stay.patient, {"Female": 8532, "Male": 8507}.get(stay.sex, 0), born
    for stay in mine:
        ends = {"Expired": 4216643, "Alive": 581476}
        visits.append((stay.number, stay.patient, stay.admitted, ends.get(stay.died)))
        for one in stay.records:
            unit, value = UNITS[one.name], one.value
            if one.name == "temperature":
                unit, value = "[degF]", round(value * 1.8 + 32, 3)
            when = stay.admitted + timedelta(minutes=one.minutes)
            values.append((stay.patient, loinc[one.code], when.date(), when, value, units[unit], None, None, None))
    with duckdb.connect(str(folder / "cdm.duckdb")) as database:
        database.execute("CREATE TABLE concept (concept_id INT, vocabulary_id TEXT, concept_code TEXT)")
        database.execute("CREATE TABLE person (person_id BIGINT, gender_concept_id INT, year_of_birth INT)")
        database.execute("CREATE TABLE visit_occurrence (visit_occurrence_id INT, person_id BIGINT,"
                         " visit_start_datetime TIMESTAMP, discharged_to_concept_id INT)")  # fmt: skip
        database.execute("CREATE TABLE measurement (person_id INT, measurement_concept_id INT, measurement_date DATE,"
                         " measurement_datetime TIMESTAMP, value_as_number DOUBLE, unit_concept_id INT,"
                         " operator_concept_id INT, value_as_concept_id INT, value_source_value TEXT)")  # fmt: skip
        database.execute(
            "CREATE TABLE observation (person_id BIGINT, observation_concept_id INT, observation_date DATE,"
            " observation_datetime TIMESTAMP, value_as_number DOUBLE, value_as_concept_id INT, value_as_string TEXT,"
            " unit_concept_id INT)"
        )
        many = (
            ("concept", concepts),
            ("person", list(people.values())),
            ("visit_occurrence", visits),
            ("measurement", values),
        )
        for table, rows in many:
            file = folder / f"{table}.csv"
            with file.open("w", newline="") as written:
                csv.writer(written).writerows(rows)
            database.execute(f"COPY {table} FROM '{file}' (FORMAT csv, HEADER false)")
        for table in ("measurement", "observation"):
            for name in ("unit_source_value", f"{table}_source_value"):
                database.execute(f"ALTER TABLE {table} ADD COLUMN {name} TEXT")
    main = {
        "type": "sql", "path": "cdm.duckdb",
        "query": "SELECT person_id AS patient, visit_start_datetime AS admitted, year(visit_start_datetime) -"
                 " year_of_birth AS age, gender_concept_id AS sex, discharged_to_concept_id AS died"
                 " FROM visit_occurrence JOIN person USING (person_id)",
    }  # fmt: skip
    records = {
        "source": {
            "type": "sql", "path": "cdm.duckdb",
            "query": compiled.omop(Contract.model_validate(CONTRACT)),
        },
        "patient": "patient", "code": "code", "system": "system", "time": "taken", "value": "value", "unit": "unit",
    }  # fmt: skip
    label, sex = {"581476": 0.0, "4216643": 1.0}, {"8532": "female", "8507": "male"}
    return _mapping(folder, main, records, {}, label, sex, out)
