"""What looks for planted names in files finds them however they are written: else a test of leaks holds nothing."""

import base64
import gzip
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from e2e.spelt import holding

NAME = "Zwiebelmeyer^7"


def base64_of(data: bytes, before: int) -> bytes:
    return base64.b64encode(b"x" * before + data + b"yz")


WRITTEN: dict[str, Callable[[Path], object]] = {
    **{encoding: lambda path, encoding=encoding: path.write_text(f"({NAME}) and", encoding)  # type: ignore[misc]
       for encoding in ("utf-8", "latin-1", "utf-16", "utf-16-be", "utf-32", "utf-32-be")},
    **{f"base64, {before} bytes after others": lambda path, before=before: path.write_bytes(  # type: ignore[misc]
        base64_of(NAME.encode("utf-16-le"), before)) for before in range(3)},
    "hex": lambda path: path.write_text(NAME.encode().hex()),
    "an address": lambda path: path.write_text(f"https://h/?name={urllib.parse.quote(NAME)}"),
    "numpy": lambda path: np.savez(path.open("wb"), names=np.array(["x", NAME])),
    "numpy, packed": lambda path: np.savez_compressed(path.open("wb"), names=np.array(["x", NAME])),
    "gzip": lambda path: path.write_bytes(gzip.compress(NAME.encode())),
    "its name": lambda path: (path.parent / f"{NAME}.txt").write_text(""),
}  # fmt: skip


@pytest.mark.parametrize("way", WRITTEN)
def test_a_name_is_found_however_it_is_written(tmp_path: Path, way: str) -> None:
    (tmp_path / "other").write_text("nothing")
    WRITTEN[way](tmp_path / "file")
    wanted = f"{NAME}.txt" if way == "its name" else "file"
    assert [path.name for path in holding([tmp_path], "Querulus", NAME)] == [wanted]
    assert holding([tmp_path], "Zwiebelmaier") == []
