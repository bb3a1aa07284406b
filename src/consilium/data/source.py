"""Where a hospital's table is: the `source` of a mapping, by its type."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from consilium import plugins
from consilium.core.parts import Slug
from consilium.data.omop.definition import OmopPart
from consilium.data.part import Part
from consilium.data.servers import FhirPart, Flaw, ServerPart

KEYS = {
    "csv": ("path", "header", "columns", "delimiter", "encoding"),
    "parquet": ("path", "zone"),
    "excel": ("path", "sheet"),
    "sql": ("url", "path", "query", "time_limit_s", "zone"),
    "tables": ("tables", "query", "time_limit_s"),
    "fhir": ("path", "url", "fhir", "views", "query", "time_limit_s"),
    "omop": ("path", "url", "omop"),
    "dicom": ("path", "url", "dicom"),
}
"""What a source of each type takes beside `type`; a plug-in takes whatever it knows."""
EXAMPLES = {
    "csv": '{type: csv, path: visits.csv, delimiter: ";"}',
    "parquet": "{type: parquet, path: visits.parquet}",
    "excel": "{type: excel, path: registry.xlsx, sheet: Visits}",
    "sql": '{type: sql, url: "sqlite:///registry.db", query: "SELECT nr, age FROM visits"}',
    "tables": "{type: tables, tables: {persons: {type: parquet, path: persons.parquet}, visits: {type: csv, path: "
    'visits.csv}}, query: "SELECT nr, sex, value FROM persons JOIN visits USING (nr)"}',
    "fhir": "{type: fhir, path: export, views: {patients: patients.json}}",
    "omop": '{type: omop, path: cdm.duckdb, omop: {version: "5.4", cohort: {circe: cohort.json, entry: first}, '
    "columns: {age: {family: age}}}}",
    "dicom": "{type: dicom, path: images, dicom: {labels: {type: csv, path: labels.csv}, accession: accession}}",
}
"""One of each type, in a line."""
MEANT = {
    **dict.fromkeys(("sqlite", "sqlite3", "duckdb", "postgres", "postgresql", "mysql", "mariadb", "oracle", "mssql",
                     "database", "db", "sqlalchemy"), "sql"),
    **dict.fromkeys(("tsv", "txt", "text", "file"), "csv"),
    **dict.fromkeys(("join", "joined", "files", "several"), "tables"),
    **dict.fromkeys(("xls", "xlsx", "xlsm"), "excel"),
    **dict.fromkeys(("ndjson", "json", "bundle"), "fhir"),
}  # fmt: skip
"""What people write for a type, and which one it is."""


Word = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=63)]
"""A name in a query that needs no quotes."""


class TableSource(Part):
    """Where the table is.

    csv, parquet and excel: `path`; sql: `url` (or a DuckDB file as `path`) and `query`; tables: several of these as
    `tables`, and `query`; fhir: `path`, or `url` and
    `fhir` of a server, with `views` and `query`; omop: `url` (PostgreSQL) or a DuckDB file as `path`, and `omop`;
    dicom: a folder as `path`, or `url` (DICOMweb), and `dicom`. Files are looked for from the mapping's folder on.
    """

    type: Slug = Field(description="csv, parquet, excel, sql, tables, fhir, omop, dicom, or a plug-in")
    path: str | None = Field(None, description="file, relative to the mapping; fhir: a folder of NDJSON and Bundles")
    url: str | None = Field(
        None,
        description="SQLAlchemy URL, that of a file relative to the mapping; ${NAME} is taken from the environment",
    )
    query: str | None = Field(None, description="one SELECT statement; fhir, tables: over the views or tables, by name")
    time_limit_s: float = Field(
        600.0, gt=0, le=86_400, description="sql, tables, fhir: seconds after which the query is given up"
    )
    zone: str | None = Field(
        None, pattern=r"^[A-Za-z]+(/[A-Za-z0-9_+-]+)*$", max_length=63,
        description="parquet, sql on DuckDB or PostgreSQL: time zone of the hospital, such as Europe/Berlin, by whose "
        "clock columns are read that hold instants (TIMESTAMPTZ), and no day",
    )  # fmt: skip
    tables: "dict[Word, TableSource]" = Field(
        {}, description="tables: name of each table in the query, and where it is, written as a source; all its "
        "columns are text there"
    )  # fmt: skip
    views: dict[Word, str] = Field(
        {}, description="fhir: name of each view, and the file of its ViewDefinition, relative to the mapping"
    )
    fhir: FhirPart | None = Field(None, description="fhir: how a server (`url`) is read")
    omop: OmopPart | None = Field(None, description="omop: which persons, and which columns are made of their records")
    dicom: "DicomPart | None" = Field(None, description="dicom: which images, and the table of their labels")
    header: bool = Field(True, description="whether the first line of a CSV file names the columns")
    columns: tuple[str, ...] = Field((), description="names of the columns of a CSV file without header")
    delimiter: str = Field(",", min_length=1, max_length=1, description="between the columns of a CSV file")
    encoding: str = Field("utf-8", description="of a CSV file")
    sheet: str | None = Field(None, description="name of the sheet of an Excel workbook, where it has several")

    @model_validator(mode="before")
    @classmethod
    def _of_its_type(cls, given: Any) -> Any:
        """The type first: what else may stand there follows from it."""
        kind = given.get("type") if isinstance(given, dict) else None
        if not isinstance(kind, str):
            return given
        known = plugins.names("consilium.sources")
        if kind not in known:
            meant = MEANT.get(kind.casefold(), "")
            such = f"; a source of type {meant} is written {EXAMPLES[meant]}" if meant else ""
            raise ValueError(f"`type` must be one of {', '.join(known)}{such}")
        takes = KEYS.get(kind, tuple(given))
        unset: dict[str, tuple[Any, ...]] = {
            key: (one.get_default(), None, [], {}) for key, one in cls.model_fields.items()
        }
        strange = [key for key in given if key not in ("type", *takes) and given[key] not in unset.get(key, ())]
        if strange:
            raise ValueError(
                f"`{strange[0]}` is no key of a source of type {kind}: it takes {', '.join(takes)}, such as "
                f"{EXAMPLES[kind]}"
            )
        return given


class DicomPart(ServerPart):
    """Images, one for each row of a table that has labels; joined by accession number."""

    labels: TableSource = Field(description="the table, one row per patient: csv, parquet, excel, sql, fhir or omop")
    accession: str = Field(description="its column with the accession number")
    patient: str | None = Field(
        None, description="its column with DICOM's Patient ID: an image of another patient is a finding"
    )
    query: str = Field("", description="DICOMweb: which studies are searched, such as StudyDate=20250101-20251231")
    take: Literal["only", "first", "last"] = Field("only", description="which one, where an order has several images")
    leave_out: tuple[Flaw, ...] = Field(
        (), description="images with such a flaw are left out; otherwise a flaw ends the reading"
    )


TableSource.model_rebuild()
