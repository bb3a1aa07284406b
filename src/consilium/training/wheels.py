"""A study's own architecture: a wheel named by its digest, unpacked into a folder of its own and never installed.

What it may hold is what a person at the hospital can read: files of Python and of data. It is imported at the end of
the path, so that it takes the place of no module that is installed.
"""

import errno
import hashlib
import importlib.util
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from stat import S_IFMT, S_ISDIR, S_ISREG

from consilium.core.errors import DigestMismatch, Refused, StudyInvalid
from consilium.training.base import Architecture

GROUP = "consilium.architectures"
MOST_BYTES, MOST_FILES = 512 << 20, 20_000
COMPILED = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".pyo")
PIECE = 1 << 20
UNFIT = (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP)
"""Errors that are of a wheel's bytes (None: bzip2) and names; others, as a full disk, are the machine's."""


def unpack(wheel: Path, digest: str, folder: Path) -> Path:
    """Unpack `wheel`, whose bytes must have `digest`, into the new folder `folder`, and return it.

    (1) the bytes are those that were approved   (2) every name lies within the folder   (3) plain files only: no links,
    no compiled code, no file that Python runs unasked (.pth)   (4) sizes are bounded, as counted and not as claimed.
    Not checked: what the code does. It is for that that it is read, approved and confined.

    Raises: DigestMismatch: other bytes.   Refused: it is no wheel, or holds what a wheel may not (`wheel`).
    """
    with wheel.open("rb") as file:
        found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise DigestMismatch(f"the wheel is {found}, but the study names {digest}", "fetch it again")
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                for entry in entries:
                    _check(entry)
                if len(entries) > MOST_FILES:
                    raise _refused(f"it holds more than {MOST_FILES} files")
                folder.mkdir(parents=True)
                left = MOST_BYTES
                for entry in entries:
                    left -= _write(archive, entry, folder, left)
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            EOFError,
            UnicodeError,
        ) as error:
            raise _refused(f"it cannot be unpacked ({type(error).__name__})") from error
        except OSError as error:
            if error.errno not in UNFIT:
                raise
            raise _refused(f"it cannot be unpacked ({error.strerror or type(error).__name__})") from error
    return folder


def _refused(what: str) -> Refused:
    return Refused(f"this wheel is refused: {what}", "build it anew from plain Python files", reason="wheel")


def _check(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts:
        raise _refused(f"{name!r} does not lie within it")
    mode = entry.external_attr >> 16
    if S_IFMT(mode) and not (S_ISREG(mode) or S_ISDIR(mode)):
        raise _refused(f"{name!r} is neither a file nor a folder")
    if entry.flag_bits & 1:
        raise _refused(f"{name!r} is encrypted")
    if path.suffix.lower() == ".pth":
        raise _refused(f"Python would run {name!r} unasked")
    if path.suffix.lower() in COMPILED or ".so." in path.name.lower():
        raise _refused(f"{name!r} is compiled code, which nobody can review")


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int) -> int:
    """Write one file, of at most `left` bytes; how many there were."""
    path = folder / entry.filename
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with archive.open(entry) as source, path.open("xb") as out:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > left:
                raise _refused(f"it holds more than {MOST_BYTES >> 20} MiB")
            out.write(piece)
    return size


def architecture(folder: Path, name: str) -> Architecture:
    """The function behind the entry point `name` of the wheel in `folder`. From here on, foreign code runs.

    Raises: StudyInvalid: there is no such entry point, or what it names is not in the wheel or cannot be imported.
    """
    folder = folder.resolve()
    points = {
        point.name: point
        for found in distributions(path=[str(folder)])
        for point in found.entry_points.select(group=GROUP)
    }
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise StudyInvalid(f"model.architecture: the wheel has no entry point {name!r} in {GROUP}", f"it has: {known}")
    point = points[name]
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    top = point.module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    places = [*(spec.submodule_search_locations or []), spec.origin or ""] if spec else []
    if not any(place and Path(place).is_relative_to(folder) for place in places):
        raise StudyInvalid(
            f"the entry point {name!r} names the module {top!r}, which is not the wheel's",
            "name a module of the wheel that has the name of no installed one",
        )
    try:
        build: Architecture = point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise StudyInvalid(
            f"the wheel's {point.value} cannot be imported ({type(error).__name__})",
            "it may use Python, torch and numpy only: nothing else is installed for it",
        ) from error
    return build


@contextmanager
def opened(wheel: Path, digest: str, name: str, folder: Path) -> Iterator[Architecture]:
    """An architecture of one's own wheel, imported unconfined: for the study's author, never at a hospital.

    Afterwards its modules are forgotten, so that the next wheel in this process is not taken for this one.
    """
    unpack(wheel, digest, folder)
    try:
        yield architecture(folder, name)
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for key, module in list(sys.modules.items()):
            if (origin := getattr(module, "__file__", None)) and Path(origin).is_relative_to(folder):
                del sys.modules[key]
