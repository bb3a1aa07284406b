"""Studies of a DICOMweb server: found by QIDO-RS, page by page, and fetched by WADO-RS, whole or not at all.

https://dicom.nema.org/medical/dicom/current/output/html/part18.html, 10.6 "Search", 10.4 "Retrieve".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from consilium.core.errors import DataUnusable
from consilium.data.web import Answer, Web

JSON, PARTS = "application/dicom+json", 'multipart/related; type="application/dicom"'
PAGE = 200
STUDY, ACCESSION, PATIENT, COUNT = "0020000D", "00080050", "00100020", "00201208"
UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Study:
    """One study. patient, count: whose it is, and how many images it has, where the server says so; else ""."""

    uid: str
    accession: str
    patient: str
    count: str


def studies(web: Web, query: str) -> Iterator[Study]:
    """Every study that fits, once. Raises: DataUnusable: an answer is none, or a study has no UID."""
    asked = [*parse_qsl(query, keep_blank_values=True), *(("includefield", one) for one in (ACCESSION, PATIENT, COUNT))]
    known: dict[str, Study] = {}
    offset = 0
    while True:
        page = [*asked, ("limit", str(PAGE)), ("offset", str(offset))]
        answer = web.ask(f"studies?{urlencode(page)}", JSON)
        found = [] if answer.status == 204 else answer.json(web.where)
        if type(found) is not list:
            raise _wrong(web, "a search gave no list", "check the address of the server")
        fresh = 0
        for one in found:
            study = Study(*(_value(one, tag) for tag in (STUDY, ACCESSION, PATIENT, COUNT)))
            if not UID.fullmatch(study.uid):
                raise _wrong(web, "a search gave a study without a UID", "see the server's log")
            if known.setdefault(study.uid, study) != study:
                raise _wrong(web, "a study changed while it was searched", "try again")
            fresh += known[study.uid] is study
        if found and not fresh:
            raise _wrong(web, "the server gives the same page again and again", "see whether it knows `offset`")
        if not found:
            yield from known.values()
            return
        offset += len(found)


def _value(found: Any, tag: str) -> str:
    """The first value of an attribute, in the JSON model of DICOM."""
    values = found.get(tag, {}).get("Value") if type(found) is dict and type(found.get(tag, {})) is dict else None
    return str(values[0]).strip() if type(values) is list and values else ""


def instances(web: Web, study: Study) -> list[bytes]:
    """Every DICOM file of a study. Raises: DataUnusable: some are lacking, or an answer is cut."""
    found = parts(web, web.ask(f"studies/{study.uid}", PARTS))
    if study.count and str(len(found)) != study.count:
        raise _wrong(web, "a study has not as many images as the search said", "it changed, or was cut: try again")
    return found


def parts(web: Web, answer: Answer) -> list[bytes]:
    """The parts of a multipart answer (RFC 2046). Raises: DataUnusable: it is none, or its end is lacking."""
    told = re.search(r'boundary="?([^";\s]{1,70})"?', answer.headers.get("Content-Type", ""), re.IGNORECASE)
    if told is None:
        raise _wrong(web, "a study came as no multipart", "check that the server speaks WADO-RS")
    mark = b"--" + told[1].encode("latin-1")
    body = answer.body if answer.body.startswith(mark) else answer.body.partition(b"\r\n" + mark)[2]
    body = body if body is answer.body else mark + body
    found = []
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)[1:]
    if not pieces or not pieces[-1].startswith(b"--"):
        raise _wrong(web, "a study was cut", "try again; check the proxy")
    for piece in pieces[:-1]:
        head, between, data = piece.partition(b"\r\n\r\n")
        if not between:
            raise _wrong(web, "a part of a study has no end", "see the server's log")
        length = re.search(rb"(?im)^content-length:\s*0*(\d+)", head)
        if length is not None and length[1] != b"%d" % len(data):
            raise _wrong(web, "a part of a study has another length than it says", "try again; check the proxy")
        found.append(data)
    return found


def _wrong(web: Web, what: str, remedy: str) -> DataUnusable:
    return DataUnusable(f"{web.where}: {what}", remedy)
