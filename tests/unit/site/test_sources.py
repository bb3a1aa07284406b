"""Which table a mapping reads is told by the table, so that what was spent of its patients' privacy is found again."""

from pathlib import Path
from typing import Any

import yaml

from consilium.core.ids import Digest
from consilium.site import sources


def read(file: Path, **source: Any) -> Digest:
    """Which table a mapping in `file` reads."""
    part = {"type": "sql", "query": "SELECT 1 AS x", **source}
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({
        "mapping": 1, "contract": "c", "source": part, "patient": {"row": True}, "features": {},
        "label": {"column": "x"},
    }))  # fmt: skip
    return sources.asked(file).source


def test_a_file_of_a_database_is_one_source_however_its_url_is_written(tmp_path: Path) -> None:
    spellings = [
        (tmp_path / "a.yaml", "sqlite:///t.db"), (tmp_path / "b.yaml", f"sqlite:///{tmp_path}/t.db"),
        (tmp_path / "sub" / "c.yaml", "sqlite:///../t.db"), (tmp_path / "d.yaml", "sqlite+pysqlite:///t.db?timeout=3"),
    ]  # fmt: skip
    assert len({read(path, url=url) for path, url in spellings}) == 1
    others = [
        (tmp_path / "sub" / "e.yaml", "sqlite:///t.db"), (tmp_path / "f.yaml", "sqlite:///u.db"),
        (tmp_path / "g.yaml", "postgresql://host/t.db"), (tmp_path / "h.yaml", "sqlite:///t.db"),
    ]  # fmt: skip
    assert len({read(path, url=url) for path, url in others}) == 4, "the same name in another folder is another table"
    assert read(tmp_path / "i.yaml", url="duckdb:///t.db") == read(tmp_path / "j.yaml", path="t.db")


def test_of_several_tables_each_counts_by_its_place(tmp_path: Path) -> None:
    def joined(file: Path, *paths: str) -> Digest:
        tables = {name: {"type": "csv", "path": path} for name, path in zip("ab", paths)}
        return read(file, type="tables", tables=tables)

    same = joined(tmp_path / "a.yaml", "t.csv", "u.csv"), joined(tmp_path / "sub" / "b.yaml", "../t.csv", "../u.csv")
    assert len(set(same)) == 1
    others = [("t.csv", "v.csv"), ("u.csv", "t.csv"), ("t.csv",)]
    assert len({same[0], *(joined(tmp_path / f"{''.join(paths)}.yaml", *paths) for paths in others)}) == 4
