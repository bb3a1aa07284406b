"""Which of the hospital's tables a plan reads, and whose: by the table itself, and not by what a file is called."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from consilium import yamlfile
from consilium.core.errors import MappingInvalid
from consilium.core.ids import Digest, canonical, digest
from consilium.core.study import Plan
from consilium.data import databases
from consilium.data.mapping import Mapping
from consilium.data.source import TableSource
from consilium.site.folder import Folder
from consilium.site.journal import Journal


@dataclass(frozen=True)
class Asked:
    """Digests of which table a mapping reads and which column is the label; and how it names the patients, or ""."""

    source: Digest
    label: Digest
    patients: str


def mapping(folder: Folder, journal: Journal, plan: Plan) -> Path:
    """The mapping with which a plan is trained. Raises: NotFound."""
    row = journal.row("SELECT path FROM mappings WHERE plan = ?", plan.digest)
    return folder.mapping(plan.study.contract.id, Path(row["path"]) if row else None)


def asked(path: Path) -> Asked:
    """What a mapping reads, as it stands now. Raises: MappingInvalid."""
    try:
        return _asked(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise MappingInvalid(f"{path} cannot be read", "give the path of a YAML file in UTF-8") from error


@lru_cache(maxsize=16)
def _asked(path: Path, _: int) -> Asked:
    found = yamlfile.load(path, Mapping, MappingInvalid)
    records = [
        [[name, str(part.model_dump(mode="json", exclude={"keys"}))]] for name, part in sorted(found.records.items())
    ]
    source = digest(canonical([*_which(found.source, path.parent), *records]))
    return Asked(source, digest(canonical([found.label.column])), found.patients or "")


def _which(table: TableSource, folder: Path) -> list[Any]:
    """Which table a source is: by its place, and by what of it is read."""
    file = databases.place(table.url or "", folder) if "${" not in (table.url or "") else None
    at = folder / table.path if table.path else file
    place, url = "" if at is None else str(at.resolve()), (table.url or "") if file is None else ""
    views = [[name, str((folder / file).resolve())] for name, file in sorted(table.views.items())]
    beside: list[Any] = [views] if views else []
    if table.fhir is not None:
        which = table.fhir.model_dump(mode="json", include={"read", "level", "group", "filters"})
        beside.append([[key, str(value)] for key, value in which.items()])
    if table.dicom is not None:
        beside.append([["dicom", table.dicom.model_dump_json(include={"labels", "accession", "query", "take"})]])
    if table.omop is not None:
        beside.append([[key, str(value)] for key, value in table.omop.model_dump(mode="json").items()])
    beside += [[name, *_which(one, folder)] for name, one in sorted(table.tables.items())]
    return [table.type, place, url, table.query or "", *beside]
