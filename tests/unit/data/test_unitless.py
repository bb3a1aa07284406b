"""Numbers whose unit nobody looks at are told, where the table has several; for it a column of units is read, too."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.data import catalogue, lookalikes, meeting, unitless
from consilium.data.base import Asked, Seen
from consilium.data.joined import JoinedSource
from consilium.data.source import TableSource

FORMS = {
    "SELECT nr, max(CAST(v AS DOUBLE)) FILTER (WHERE code = 'CRP') AS crp FROM lab GROUP BY nr": ["crp"],
    "WITH l AS (SELECT nr, trim(v) AS w, unit AS u FROM lab) SELECT l.nr, arg_min(w, u) AS a, "
    "any_value(replace(w, ',', '.')) AS b FROM l GROUP BY l.nr": ["b"],
    "SELECT p.nr, (SELECT 1) AS one, l.v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr": ["v"],
    "WITH RECURSIVE k AS (SELECT nr, 1 AS n FROM ward UNION SELECT k.nr, n + 1 FROM k WHERE n < 3) SELECT k.nr, "
    "max(v) AS v FROM k JOIN lab ON lab.nr = k.nr GROUP BY k.nr": ["v"],
    "SELECT nr, sum(CAST(v AS DOUBLE) * CASE unit WHEN 'g' THEN 1000 ELSE 1 END) AS v FROM lab GROUP BY nr": [],
    "SELECT nr, v, unit FROM lab": [],
    "SELECT * FROM lab": [],
    "SELECT nr, count(v) AS n, any_value(code) AS c, bool_or(v = '5') AS five FROM lab GROUP BY nr": [],
    "SELECT p.nr, p.age FROM ward AS p JOIN lab AS l ON l.nr = p.nr": [],
}
"""Queries, and columns of their answers that take numbers of `lab` without a look at their unit."""


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(("mg", "mg ", "MG", "g", "", None)), min_size=1, max_size=6),
       st.sampled_from(sorted(FORMS)))  # fmt: skip
def test_numbers_without_a_look_at_their_units_are_told_if_and_only_if_there_are_several(
    units: list[str | None], query: str
) -> None:
    with duckdb.connect() as tables:
        tables.execute("CREATE TABLE lab (nr VARCHAR, code VARCHAR, v VARCHAR, unit VARCHAR)")
        tables.execute("CREATE TABLE ward (nr VARCHAR, age VARCHAR)")
        rows = [(str(nr), f"{nr}.5", unit) for nr, unit in enumerate(units)]
        tables.executemany("INSERT INTO lab VALUES (?, 'CRP', ?, ?)", rows)
        known = catalogue.of_duckdb(tables)
        names = [row[0] for row in tables.execute(f"DESCRIBE {query}").fetchall()]
        found = list(unitless.unitless(tables, query, names, known, unitless.mixed(known)))
    several, told = len({(one or "").strip().lower() for one in units} - {""}) > 1, FORMS[query]
    assert [one.words.split(":")[0].split(", ") for one in found] == ([told] if several and told else [])


def test_what_could_not_be_looked_at_is_named_each_with_its_own_advice(tmp_path: Path) -> None:
    """Of two queries of one name within each other it is not known which one a name means."""
    rows = [f"{nr},CRP,{nr}.5,{'mg' if nr % 2 else 'g'}" for nr in range(20)]
    (tmp_path / "lab.csv").write_text("\n".join(["nr,code,v,unit", *rows, ""]))
    query = (
        "WITH k AS (SELECT DISTINCT nr FROM lab), l AS (WITH k AS (SELECT * FROM lab WHERE code = 'CRP') "
        "SELECT nr, v FROM k) SELECT k.nr, l.v FROM k JOIN l ON l.nr = k.nr"
    )
    given_ = {"type": "tables", "tables": {"lab": {"type": "csv", "path": "lab.csv"}}, "query": query}
    found = JoinedSource(TableSource.model_validate(given_), tmp_path).rows().doubts
    told = {one.words: one.remedy for one in found if isinstance(one, Seen) and one.unknown}
    assert set(told) == {
        lookalikes.UNKNOWN.words, f"{unitless.UNKNOWN}: several stand in lab.unit", meeting.DOUBT.words,
    }  # fmt: skip
    assert "trim(" in told[meeting.DOUBT.words] and "max, min" not in told[meeting.DOUBT.words]


@pytest.mark.parametrize("unit", ["einheit", "Lab_Unit", "valueUnit", "community"])
def test_a_column_of_units_is_read_for_it_though_the_query_does_not_name_it(tmp_path: Path, unit: str) -> None:
    lines = [f"{nr},{nr}.5,{'mg/dL' if nr % 2 else 'mmol/L'},geheim" for nr in range(20)]
    (tmp_path / "lab.csv").write_text(f"nr,v,{unit},name\n" + "\n".join(lines) + "\n")
    query = "SELECT nr, max(CAST(v AS DOUBLE)) AS v FROM lab GROUP BY nr"
    given_ = {"type": "tables", "tables": {"lab": {"type": "csv", "path": "lab.csv"}}, "query": query}
    source = JoinedSource(TableSource.model_validate(given_), tmp_path)
    source.told(Asked(columns=frozenset(("nr", "v")), without=("nr", frozenset())))
    found = [one for one in source.rows().doubts if isinstance(one, Seen)]
    assert [f"does not look at lab.{unit}" in one.words for one in found] == [True] * (unit != "community")
    assert source._named == {"nr", "v"}
