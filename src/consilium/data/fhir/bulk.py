"""Resources of a FHIR server by Bulk Data export: kick-off, polling, files fetched on where they broke off.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html. What a process was cut in is fetched on by the next one: the job's
address and halves of files stand in the extract's folder. An export that lacks anything is none.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from consilium.core.errors import DataUnusable
from consilium.data.extracts import JOB
from consilium.data.fhir import ndjson
from consilium.data.fhir.search import JSON
from consilium.data.servers import FhirPart
from consilium.data.web import Answer, Web, outcome, retry_after
from consilium.durable import own, replace_file

NDJSON = "application/fhir+ndjson"
POLL_S, OLDEST_S = 5.0, 86_400.0
"""Between two looks at a job where the server does not say; and how old a job may be that is taken up again."""
GONE = (401, 403, 404, 410)
"""What servers and stores say of a link that has expired."""
LINKS, CUTS = 3, 50
"""How often links are asked for anew, and how often one file may be cut, before an export is given up."""
SENT_WHOLE = 416
PIECE, MOST_UNPACKED = 1 << 20, 200
"""Bytes that are unpacked at once; and how many times its size a packed file may come to: more is a bomb."""


@dataclass(frozen=True)
class Output:
    """One file of an export; `count`: resources in it, where the server says so."""

    type: str
    url: str = field(repr=False)
    count: int | None


@dataclass(frozen=True)
class Manifest:
    """What a job has made."""

    at: str
    signed: bool
    output: tuple[Output, ...]
    deleted: tuple[Output, ...]
    error: tuple[Output, ...]


@dataclass(frozen=True)
class Export:
    """Files of an export, in order, up to which moment it goes, and what was deleted since the last one."""

    files: list[tuple[str, Path]]
    mark: str
    deleted: frozenset[tuple[str, str]]


def export(web: Web, given: FhirPart, kinds: list[str], folder: Path, of: str, since: str) -> Export:
    """Export what is asked for into `folder`, or go on with the export of which it holds a half.

    Args:    of: digest of what is asked for.   since: the mark of the last export; "" for all there is.
    Raises:  DataUnusable: the server refuses or fails, a file is not what the manifest says, or the time is over.
    """
    job = _Job(web, given, kinds, folder, of, since)
    manifest = job.done()
    files = [(one.type, job.fetched("output", number, one)) for number, one in enumerate(manifest.output)]
    strange = sorted({kind for kind, _ in files if kind not in kinds})
    if strange:
        raise job.wrong("it has files of types that were not asked for", "see the server's log")
    job.no_errors()
    deleted = frozenset(
        key for number, one in enumerate(manifest.deleted) for key in _deleted(job.fetched("deleted", number, one))
    )
    job.end()
    return Export(files, manifest.at, deleted)


class _Job:
    """One export at the server, and its files here."""

    def __init__(self, web: Web, given: FhirPart, kinds: list[str], folder: Path, of: str, since: str) -> None:
        self._web, self._given, self._kinds, self._folder = web, given, kinds, folder
        self._of, self._since, self._url, self._renewed = of, since, "", 0
        self.manifest = Manifest("", False, (), (), ())

    def done(self) -> Manifest:
        """The manifest, once the job is done; a job that another process began is taken up, if it is still there."""
        known = self._known()
        if known is not None:
            self._url = known
            answer = self._polled(GONE)
            if answer.status < 400:
                self.manifest = self._read(answer)
                return self.manifest
            self._forget()
        self._begin()
        self.manifest = self._read(self._polled(()))
        return self.manifest

    def _known(self) -> str | None:
        """The address of a job for the same request that was begun of late; else there is nothing to go on with."""
        path = self._folder / JOB
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(path.read_bytes())
            age_s = (datetime.now(UTC) - datetime.fromisoformat(found["begun"])).total_seconds()
            if (found["of"], found["since"]) == (self._of, self._since) and 0 <= age_s < OLDEST_S:
                return str(found["url"])
        self._forget()
        return None

    def _forget(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()

    def _begin(self) -> None:
        given = self._given
        place = f"Group/{given.group}/$export" if given.group else "Patient/$export"
        place = "$export" if given.level == "system" and not given.group else place
        query = [("_outputFormat", NDJSON), ("_type", ",".join(self._kinds))]
        query += [("_since", self._since)] if self._since else []
        query += [("_typeFilter", f"{kind}?{words}") for kind, words in sorted(given.filters.items())]
        answer = self._web.ask(f"{place}?{urlencode(query)}", JSON, headers={"Prefer": "respond-async"})
        where = answer.headers.get("Content-Location", "")
        if answer.status != 202 or not where:
            raise self.wrong(
                f"the server did not begin one (status {answer.status})", "see whether it offers `$export`"
            )
        self._url = self._web.url(where)
        known = {"of": self._of, "since": self._since, "url": self._url, "begun": datetime.now(UTC).isoformat()}
        replace_file(self._folder / JOB, json.dumps(known).encode(), 0o600)

    def _polled(self, passing: tuple[int, ...]) -> Answer:
        while True:
            answer = self._web.ask(self._url, "application/json", passing=passing)
            if answer.status != 202:
                return answer
            self._web.clock.wait(max(retry_after(answer.headers, POLL_S), 0.05))

    def _read(self, answer: Answer) -> Manifest:
        found = answer.json(f"{self._web.where}: export")
        try:
            if type(found) is not dict or any(one.get("relation") == "next" for one in found.get("link", [])):
                raise ValueError
            lists = [_outputs(found.get(name) or []) for name in ("output", "deleted", "error")]
            return Manifest(_instant(found["transactionTime"]), _needed(found["requiresAccessToken"]), *lists)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.wrong("its manifest is none of Bulk Data (STU 2)", "see the server's log") from error

    def fetched(self, group: str, number: int, output: Output) -> Path:
        """A file of the manifest, whole. Links that expired are asked for anew."""
        part, mark = self._folder / f"{group}-{number}.part", self._folder / f"{group}-{number}.mark"
        whole = self._folder / f"{group}-{number}.ndjson"
        if whole.exists():
            return whole
        before = -1
        for _ in range(CUTS):
            have = part.stat().st_size if part.exists() and mark.exists() else 0
            status, headers, ended = self._web.fetch(
                output.url, NDJSON, part, have=have, mark=mark.read_text() if have else "",
                signed=self.manifest.signed, passing=(*GONE, SENT_WHOLE),
            )  # fmt: skip
            if status == SENT_WHOLE:
                part.unlink()
                continue
            if status in GONE:
                output = self._anew(group, number, output)
                continue
            if ended:
                return self._whole(part, whole, headers, output)
            _strong(mark, headers, status)
            now = part.stat().st_size
            self._web.clock.wait(0.1 if now > before else 2.0)
            before = now
        raise self.wrong(f"file {number + 1} of {output.type} was cut again and again", "check network and proxy")

    def _anew(self, group: str, number: int, before: Output) -> Output:
        self._renewed += 1
        if self._renewed > LINKS * (len(self.manifest.output) + 1):
            raise self.wrong("its links are refused", "check `access`, and that the account may read the files")
        answer = self._polled(GONE)
        if answer.status >= 400:
            self._forget()
            raise self.wrong("it is not at the server any more", "export again")
        manifest = self._read(answer)
        outputs: tuple[Output, ...] = getattr(manifest, group)
        if manifest.at != self.manifest.at or len(outputs) <= number or outputs[number].type != before.type:
            self._forget()
            raise self.wrong("the server has made another one in its place", "export again")
        self.manifest = manifest
        return outputs[number]

    def _whole(self, part: Path, whole: Path, headers: Any, output: Output) -> Path:
        zipped = headers.get("Content-Encoding", "identity").lower() == "gzip"
        sized = "Content-Length" in headers or "Content-Range" in headers
        if not sized and headers.get("Transfer-Encoding", "").lower() != "chunked" and output.count is None:
            part.unlink()
            raise self.wrong(
                "the server says neither length nor count of a file", "nobody could tell whether it is whole"
            )
        if zipped:
            path = part.with_suffix(".ndjson.gz")
            part.replace(path)
            self._unzipped(path, part)
        found = sum(1 for _ in ndjson.resources(part, data=False))
        if output.count is not None and found != output.count:
            part.unlink()
            raise self.wrong(f"a file of {output.type} has not as many resources as the manifest says", "export again")
        part.replace(whole)
        return whole

    def _unzipped(self, zipped: Path, part: Path) -> None:
        import gzip
        import zlib

        most = max(zipped.stat().st_size * MOST_UNPACKED, PIECE)
        try:
            with gzip.open(zipped, "rb") as source, own(part) as file:
                while piece := source.read(PIECE):
                    if not self._web.clock.left_s or file.tell() > most:
                        raise self.wrong("a file unpacks to more than resources do", "see the server's log")
                    file.write(piece)
        except (OSError, EOFError, zlib.error) as error:
            part.unlink(missing_ok=True)
            raise self.wrong("a file was cut", "export again") from error
        except DataUnusable:
            part.unlink(missing_ok=True)
            raise
        finally:
            zipped.unlink(missing_ok=True)

    def no_errors(self) -> None:
        """That the export says of nothing that it lacks. Raises: DataUnusable."""
        codes: list[str] = []
        for number, one in enumerate(self.manifest.error):
            for _, found in ndjson.resources(self.fetched("error", number, one), data=False):
                issues = found.get("issue")
                for issue in issues if type(issues) is list else []:
                    if type(issue) is dict and issue.get("severity") in ("error", "fatal"):
                        codes += outcome({**found, "issue": [issue]}) or ["no code"]
        if codes:
            told = ", ".join(dict.fromkeys(codes))
            raise self.wrong(f"the server reports that resources are lacking ({told})", "see the server's log")

    def end(self) -> None:
        """Let the server drop its files: it need not keep patients' records for us."""
        with suppress(DataUnusable):
            self._web.ask(self._url, JSON, method="DELETE", passing=(400, 404, 405, 410, 501))

    def wrong(self, what: str, remedy: str) -> DataUnusable:
        """A finding."""
        return DataUnusable(f"{self._web.where}: export: {what}", remedy)


def _outputs(found: list[Any]) -> tuple[Output, ...]:
    made = []
    for one in found:
        count = one.get("count")
        if (
            type(one["url"]) is not str
            or type(one["type"]) is not str
            or (count is not None and type(count) is not int)
        ):
            raise ValueError
        made.append(Output(one["type"], one["url"], count))
    return tuple(made)


def _needed(told: Any) -> bool:
    """Whether files want the token: Epic and Soarian write it as text. Raises: ValueError: it says neither."""
    if told not in (True, False, "true", "false"):
        raise ValueError
    return told in (True, "true")


def _instant(text: Any) -> str:
    datetime.fromisoformat(text)
    return str(text)


def _strong(mark: Path, headers: Any, status: int) -> None:
    """Remember of which version the half of a file is; where the server does not name one, the half is of no use."""
    told = headers.get("ETag", "")
    if told and not told.startswith("W/"):
        mark.write_text(told)
    elif status != 206:
        mark.unlink(missing_ok=True)


def _deleted(path: Path) -> Iterator[tuple[str, str]]:
    """Type and id of what the Bundles of a file delete. Raises: DataUnusable: an entry does something else."""
    for number, bundle in ndjson.resources(path, data=False):
        entries = bundle.get("entry") or []
        for entry in entries if type(entries) is list else [None]:
            asked = entry.get("request") if type(entry) is dict else None
            url = asked.get("url") if type(asked) is dict and asked.get("method") == "DELETE" else None
            kind, slash, key = str(url or "").partition("/")
            if not kind or not slash or not key or "/" in key:
                raise DataUnusable(f"deleted line {number}: is no Bundle of deletions", "export all of it anew")
            yield kind, key
