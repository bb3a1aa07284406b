"""Words that must stand in no file, however they are written: in any encoding, in base64 or hex, packed or not."""

import base64
import gzip
import io
import re
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
"""With a mark of byte order or without one. numpy writes texts as UTF-32."""
DEEPEST = 3


def spellings(word: str) -> set[bytes]:
    """How a word may stand among other bytes."""
    plain = {word.encode(encoding) for encoding in ENCODINGS}
    found = plain | {urllib.parse.quote(word).encode(), *(one.hex().encode() for one in plain)}
    found |= {one.hex().upper().encode() for one in plain}
    for one in plain:  # of base64 what does not depend on the bytes before and after it
        for before in range(3):
            begins, ends = -(-before * 8 // 6), (before + len(one)) * 8 // 6
            text = base64.b64encode(b"\0" * before + one)[begins:ends]
            found |= {text, text.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def holding(places: Iterable[Path], *words: str) -> list[Path]:
    """Files, also below folders, that hold one of the words, or are called so."""
    files = sorted(path for place in places for path in [*place.rglob("*"), place] if path.is_file())
    assert files, "there is no file to look into"
    wanted = re.compile(b"|".join(re.escape(one) for word in words for one in sorted(spellings(word))))
    return [path for path in files if _holds(path.read_bytes(), wanted) or wanted.search(str(path).encode())]


def _holds(data: bytes, wanted: "re.Pattern[bytes]", depth: int = 0) -> bool:
    return bool(wanted.search(data)) or (
        depth < DEEPEST and any(_holds(one, wanted, depth + 1) for one in _packed(data))
    )


def _packed(data: bytes) -> list[bytes]:
    """What is packed as zip (npz, xlsx), gzip or zlib."""
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            return [packed.read(name) for name in packed.namelist()]
    try:
        return [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else zlib.decompress(data)]
    except (zlib.error, OSError, EOFError):
        return []
