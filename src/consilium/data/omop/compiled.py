"""The query of a contract's records, for OMOP CDM 5.3 and 5.4 on DuckDB and PostgreSQL."""

from collections.abc import Iterator

from consilium.core.contract import Contract
from consilium.core.errors import StudyInvalid
from consilium.data.bounds import EXACT, NO_NUMBER, OPERATORS, STRANGE
from consilium.data.recorded import CODED, COLUMNS, codes_of, values_of
from consilium.data.systems import SYSTEMS, uri

OCCURRENCES = {
    "condition": ("condition_occurrence", "condition", "condition_start"),
    "procedure": ("procedure_occurrence", "procedure", "procedure"),
    "drug": ("drug_exposure", "drug", "drug_exposure_start"),
}
"""The same, of OMOP: the table, and how its columns of concepts and of moments begin."""


def omop(contract: Contract) -> str:
    """One SELECT of the measurements that the contract's features are made of, for DuckDB and PostgreSQL.

    And of the observations, with coded values where categories are among them: a value of no concept is its text. Of
    conditions, procedures and drugs the standard concept counts, and that of the source.

    Raises: StudyInvalid: it is made of none, or a code system is not known to have a vocabulary.
    """
    codes_of(contract)
    parts = []
    if codes := codes_of(contract, "observation"):
        parts += _measured(_pairs(codes), _alone(codes), bool(values_of(contract)))
    for kind, place in OCCURRENCES.items():
        if codes := codes_of(contract, kind):
            parts += _occurrences(*place, _pairs(codes), _alone(codes), CODED if values_of(contract) else COLUMNS)
    return "\nUNION ALL\n".join(parts)


def _pairs(codes: list[tuple[str, str]]) -> str:
    """SQL: vocabularies and codes. Raises: StudyInvalid: a code system is not known to have a vocabulary."""
    vocabularies = {one: name for name, one in SYSTEMS.items()}
    pairs = []
    for system, code in codes:
        if uri(system) not in vocabularies:
            raise StudyInvalid(f"{system} is not known as a vocabulary of OMOP", f"known are {', '.join(vocabularies)}")
        pairs.append(f"({_doubled(vocabularies[uri(system)])}, {_doubled(code)})")
    return ",\n  ".join(pairs)


def _alone(codes: list[tuple[str, str]]) -> str:
    return ", ".join(sorted({_doubled(code) for _, code in codes}))


def _unmapped(prefix: str, codes: str) -> tuple[str, str]:
    """SQL: the code of a record that was mapped to no concept, and which of them are the contract's, as 2160-0^LN is.

    Whoever makes features of it tells so, for it names no system.
    """
    code = f"TRIM(e.{prefix}_source_value)"
    return code, f"COALESCE(e.{prefix}_concept_id, 0) = 0 AND split_part({code}, '^', 1) IN ({codes})"


def _occurrences(
    table: str, prefix: str, start: str, wanted: str, codes: str, names: tuple[str, ...]
) -> tuple[str, str]:
    told = "".join(f", CAST(NULL AS VARCHAR) AS {name}" for name in names[4:])
    code, unmapped = _unmapped(prefix, codes)
    source = f"COALESCE(e.{prefix}_source_concept_id, 0) = 0"
    return (
        "SELECT e.person_id AS patient, c.vocabulary_id AS system, c.concept_code AS code,\n"
        f"  {_moment(start, f'e.{prefix}_concept_id')} AS taken{told}\n"
        f"FROM {table} e\n"
        f"JOIN (SELECT * FROM concept WHERE (vocabulary_id, concept_code) IN (\n  {wanted})) c\n"
        f"  ON c.concept_id = e.{prefix}_concept_id OR c.concept_id = e.{prefix}_source_concept_id",
        f"SELECT e.person_id AS patient, CAST(NULL AS VARCHAR) AS system, {code} AS code,\n"
        f"  {_moment(start, f'e.{prefix}_concept_id')} AS taken{told}\n"
        f"FROM {table} e WHERE {unmapped} AND {source}",
    )


def _moment(start: str, concept: str) -> str:
    """SQL: when a record was taken; its date alone where no record of its concept has a time but midnight.

    Source: by convention midnight stands where a source has none (https://github.com/OHDSI/Themis/issues/147).
    """
    exact = f"e.{start}_datetime"
    timed = f"bool_or(CAST(CAST({exact} AS TIMESTAMP) AS TIME) <> TIME '00:00:00') OVER (PARTITION BY {concept})"
    return f"COALESCE(CASE WHEN {timed}\n    THEN CAST({exact} AS VARCHAR) END, CAST(e.{start}_date AS VARCHAR))"


def _measured(wanted: str, codes: str, coded: bool) -> list[str]:
    said = "e.value_source_value"
    signs = " ".join(f"WHEN {concept} THEN '{sign}'" for concept, sign in OPERATORS.items())
    exact = " ".join(f"WHEN {concept} THEN ''" for concept in EXACT)
    sign = f"CASE COALESCE(e.operator_concept_id, 0) {exact} {signs} ELSE '{STRANGE}' END || "
    text = f"CASE WHEN e.value_as_number IS NULL THEN {said} END"
    measured = _events("measurement", wanted, codes, sign, said, text if coded else "")
    said = "e.value_as_string"
    return [*measured, *_events("observation", wanted, codes, "", said, said if coded else "")]


_CONCEPT_UNIT = """CASE WHEN COALESCE(e.unit_concept_id, 0) = 0 THEN NULLIF(TRIM(e.unit_source_value), '')
    WHEN u.vocabulary_id = 'UCUM' THEN u.concept_code
    ELSE COALESCE(u.vocabulary_id, 'concept') || '|' ||
      COALESCE(u.concept_code, CAST(e.unit_concept_id AS VARCHAR)) END"""
"""SQL: the same of OMOP."""


def _events(table: str, wanted: str, codes: str, sign: str, said: str, text: str = "") -> Iterator[str]:
    """Two SELECTs of a table of events: those of these concepts, and those of no concept whose code is one of these.

    Args:    sign: SQL that is put before a number: the sign of one that is only a bound.
             said: SQL: the value as it was entered, of which it is seen whether there was one that is no number.
             text: SQL: what stands for a coded value that has no concept; empty: there are no coded values.
    """
    meant = (
        ",\n  CASE WHEN e.value_as_concept_id > 0 THEN v.vocabulary_id END AS value_system,\n"
        "  CASE WHEN e.value_as_concept_id > 0\n"
        "    THEN COALESCE(v.concept_code, CAST(e.value_as_concept_id AS VARCHAR))\n"
        f"    ELSE {text} END AS value_code"
    )
    code, unmapped = _unmapped(table, codes)
    concepts = f"JOIN concept c ON c.concept_id = e.{table}_concept_id\n"
    for system, coded, joined, where in (
        ("c.vocabulary_id", "c.concept_code", concepts, f"(c.vocabulary_id, c.concept_code) IN (\n  {wanted})"),
        ("CAST(NULL AS VARCHAR)", code, "", unmapped),
    ):
        yield (
            f"SELECT e.person_id AS patient, {system} AS system, {coded} AS code,\n"
            f"  {_moment(table, f'e.{table}_concept_id')} AS taken,\n"
            f"  CASE WHEN e.value_as_number IS NOT NULL THEN {sign}CAST(e.value_as_number AS VARCHAR)\n"
            f"    WHEN e.value_as_concept_id > 0 OR TRIM({said}) <> '' THEN '{NO_NUMBER}' END AS value,\n"
            f"  {_CONCEPT_UNIT} AS unit{meant if text else ''}\n"
            f"FROM {table} e\n{joined}"
            + ("LEFT JOIN concept v ON v.concept_id = e.value_as_concept_id\n" if text else "")
            + f"LEFT JOIN concept u ON u.concept_id = e.unit_concept_id\nWHERE {where}"
        )


def _doubled(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
