"""`consilium site doctor`: everything that must be right for this site to take part, and what to do where it is not."""

import os
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from sqlite3 import DatabaseError
from typing import Any, Literal

from cryptography import x509
from pydantic import ValidationError

from consilium import __version__
from consilium.core.errors import AuditBroken, ConsiliumError, PolicyInvalid
from consilium.core.model import ONNX
from consilium.governance import audit
from consilium.site import budget, contact, ledger, plans, refused, room, tables
from consilium.site.deciding import Desk
from consilium.site.folder import Folder
from consilium.site.journal import Journal, damaged
from consilium.site.line import ANOTHER, CLOCK_S, NTP, connect, differs
from consilium.site.presence import running
from consilium.training import sandbox
from consilium.wire.address import address
from consilium.wire.connection import Connection, out_of_date, proxy_for, trust
from consilium.wire.lines import Proxy
from consilium.wire.messages import PROTOCOLS, mismatch
from consilium.wire.requests import Hello

Level = Literal["ok", "warning", "problem"]
DISK_BYTES = 2 << 30
CERTIFICATE_DAYS, KEY_DAYS = 30, 730
LIMIT_S = 5.0
ASK = "`consilium site check {study}` says why"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do."""

    check: str
    level: Level
    words: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def examine(folder: Folder, now: datetime) -> Iterator[Finding]:
    """Every check, one after the other; one that breaks is itself a finding."""
    for check in CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            yield from (Finding(name, *found) for found in check(folder, now))
        except ConsiliumError as error:
            yield Finding(name, "problem", error.message, error.remedy or _remedy(error, folder))
        except DatabaseError as error:
            told = damaged(folder.journal, error)
            yield Finding(name, "problem", told.message, told.remedy)
        except ValidationError:
            yield Finding(name, "problem", "what answers is not a coordinator", "check the address and the proxy")
        except OSError as error:
            yield Finding(name, "problem", f"{error.strerror or type(error).__name__}", "look at the folder")
        except ValueError as error:  # its text may hold what was read
            words = f"what it looks at cannot be read ({type(error).__name__})"
            yield Finding(name, "problem", words, f"look at the files in {folder.home}, and at HTTPS_PROXY")


Found = tuple[Level, str, str]
UNREAD: Found = ("problem", "not looked at: the journal is damaged", "restore the journal first")


def _remedy(error: ConsiliumError, folder: Folder) -> str:
    if isinstance(error, AuditBroken):
        return "keep the journal as it is, and compare it with what the coordinator keeps: `consilium audit verify`"
    return f"correct {folder.policy_file}" if isinstance(error, PolicyInvalid) else "look at what it names"


def _versions(folder: Folder, now: datetime) -> Iterator[Found]:
    torch = "with torch" if find_spec("torch") else "without torch: studies of kind torch are refused"
    python = ".".join(map(str, sys.version_info[:3]))
    yield "ok", f"Consilium {__version__}, Python {python}, {torch}; protocol {', '.join(map(str, PROTOCOLS))}", ""
    if os.geteuid() == 0:
        yield "warning", "this runs as root, which nothing here needs", "run the agent as a user of its own"


def _permissions(folder: Folder, now: datetime) -> Iterator[Found]:
    folder.identity()  # refuses a key that others may read
    for path, most in ((folder.home, 0o700), (folder.journal, 0o600), (folder.work, 0o700)):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & ~most:
            yield "problem", f"others may read {path}", f"chmod {most:o} {path}"
            return
    if not os.access(folder.home, os.W_OK):
        yield "problem", f"{folder.home} cannot be written", "give it to the user that runs the agent"
        return
    yield "ok", f"{folder.home} and its key are this user's alone", ""


def _key(folder: Folder, now: datetime) -> Iterator[Found]:
    made = datetime.fromtimestamp(folder.key.stat().st_mtime, UTC)
    until = made + timedelta(days=KEY_DAYS)
    words = f"made on {made:%Y-%m-%d}, fingerprint {folder.identity().fingerprint}"
    if now > until:
        remedy = "join under another name with a new folder (`consilium site init --home`), and have this one removed"
        yield "warning", f"{words}; it is older than two years", remedy
    else:
        yield "ok", f"{words}; renew it by {until:%Y-%m-%d}", ""


def _disk(folder: Folder, now: datetime) -> Iterator[Found]:
    free, have = room.free(folder.home), room.used(folder.work)
    words = f"{room.size(free)} are free where {folder.home} lies; runs have {room.size(have)}"
    enough = free >= DISK_BYTES
    yield "ok" if enough else "problem", words, "" if enough else "make room: models and journals need 2 GB and more"
    if folder.joined():
        with suppress(ConsiliumError, DatabaseError):  # of key, policy and journal: their own checks say it
            yield from _needs(folder, free, have, now)


def _needs(folder: Folder, free: int, have: int, now: datetime) -> Iterator[Found]:
    with closing(Journal(folder.journal)) as journal:
        desk = Desk(folder, journal)
        limits = folder.policy().limits
        needs = [room.of_study(journal, desk.plan(name), limits) for name in desk.approved(now)]
    need, most = sum(one.bytes for one in needs), int(limits.disk_gb * room.GB)
    if not needs:
        return
    told = f"the approved studies ({', '.join(one.study for one in needs)}) need up to {room.size(need)}"
    if need > most:
        words = f"{told}; the policy gives them {room.size(most)}"
        yield "problem", words, f"raise limits.disk_gb in {folder.policy_file}"
    elif need - have > free - room.LEFT_BYTES:
        words = f"{told}, and {room.size(room.LEFT_BYTES)} is left free beside it; that is more than the disk has"
        yield "problem", words, "make room on it, or revoke one"
    else:
        yield "ok", f"{told}; the policy gives them {room.size(most)}", ""


def _policy(folder: Folder, now: datetime) -> Iterator[Found]:
    policy = folder.policy()
    if policy.expires is not None and now.date() > policy.expires:
        yield "problem", f"the policy ended on {policy.expires}", f"renew it in {folder.policy_file}"
        return
    code = "foreign code is allowed" if policy.code.allowed else "foreign code is not allowed"
    yield "ok", f"purposes {', '.join(policy.purposes)}; at least {policy.min_patients} patients; {code}", ""


def _confinement(folder: Folder, now: datetime) -> Iterator[Found]:
    why = sandbox.available()
    if why is None:
        yield "ok", "foreign code can be confined here (Landlock and seccomp)", ""
        return
    policy = folder.policy()
    if policy.code.allowed:
        yield "problem", f"the policy allows foreign code, but it cannot be confined here: {why}", "use a newer kernel"
    elif ONNX in policy.models:
        words = f"the policy allows {ONNX} models, which run confined, and would be refused here: {why}"
        yield "warning", words, f"use a newer kernel, or take {ONNX} out of `models` in {folder.policy_file}"
    else:
        yield "ok", f"foreign code cannot be confined here and would be refused: {why}", ""


def _journal(folder: Folder, now: datetime) -> Iterator[Found]:
    journal = Journal(folder.journal)
    try:
        if not journal.sound():
            yield "problem", "the journal is damaged", "restore it from your backup; keep the damaged file"
            return
        head = audit.verify(journal.entries())
        for study in plans.changed(journal):
            yield "problem", f"the plan of {study} is not the one that was offered: it was changed here", plans.WAY
        yield "ok", f"whole; its audit log has {head.seq} entries and no gap", ""
    finally:
        journal.close()


def _budget(folder: Folder, now: datetime) -> Iterator[Found]:
    try:
        with closing(Journal(folder.journal)) as journal:
            if not journal.sound():
                yield UNREAD
                return
            entries, fact = ledger.verify(journal), budget.facts(Desk(folder, journal))
    except (PolicyInvalid, DatabaseError):  # their own checks say why
        yield "ok", "not looked at: the policy or the journal cannot be read", ""
        return
    if fact["behind"]:
        yield (
            "problem",
            f"the privacy ledger is not to be relied on: {fact['behind']}",
            "`consilium site recount --person NAME`",
        )
        return
    told = [f"{one['population']}: {one['left']:g} of {one['epsilon']:g} left" for one in fact["populations"]]
    yield "ok", f"the privacy ledger is whole ({entries} entries); epsilon of {'; '.join(told)}", ""
    for one in fact["populations"]:
        if one["left"] == 0:
            words = f"the budget of {one['population']} is spent: studies with `epsilon` are refused"
            yield "warning", words, "`consilium site budget` says by which studies"
    for words in fact["warnings"].values():
        yield "warning", words, "`consilium site recount --person NAME --population ...`, by a person who knows"


def _proxy(folder: Folder, now: datetime) -> Iterator[Found]:
    url = folder.membership().url
    proxy = proxy_for(url)
    if proxy is None:
        yield "ok", f"none for {url}", ""
        return
    host, port = to = Proxy.read(proxy).address
    try:
        socket.create_connection(to, LIMIT_S).close()
    except OSError as error:
        yield "problem", f"{host}:{port} does not answer ({error})", "correct HTTPS_PROXY or NO_PROXY"
        return
    yield "ok", f"{host}:{port} answers", ""


def _coordinator(folder: Folder, now: datetime) -> Iterator[Found]:
    member = folder.membership()
    before = datetime.now(UTC)
    hello = Hello.model_validate(Connection(member.url, folder.authority()).get("/v1/hello", limit_s=LIMIT_S))
    skew = (hello.now - (before + (datetime.now(UTC) - before) / 2)).total_seconds()
    if hello.public_key != member.coordinator_key:
        yield "problem", "it has another key than when this site joined", ANOTHER
        return
    common = set(PROTOCOLS) & set(hello.protocols)
    if not common:
        yield "problem", *mismatch(max(hello.protocols))
        return
    yield "ok", f"{member.url} answers over TLS with its pinned key; release {hello.version}", ""
    if abs(skew) > CLOCK_S:
        yield "problem", differs(skew), NTP
    else:
        yield "ok", f"the clocks differ by {abs(skew):.1f} s", ""
    state = connect(folder, folder.identity()).get("/v1/site", limit_s=LIMIT_S)["state"]
    remedy = "" if state == "admitted" else "read the fingerprint to the coordinator's admin"
    yield "ok" if state == "admitted" else "warning", f"this site is {state} as {member.site}", remedy


def _certificate(folder: Folder, now: datetime) -> Iterator[Found]:
    member = folder.membership()
    if proxy_for(member.url):
        yield "ok", "not looked at: a proxy stands between", ""
        return
    host, port = to = address(member.url)
    try:
        raw = socket.create_connection(to, LIMIT_S)
    except OSError as error:
        remedy = "check the network and the firewall, and ask the coordinator's admin whether it runs"
        yield "problem", f"{host}:{port} does not answer ({error})", remedy
        return
    try:
        with (
            raw,
            trust(folder.authority()).wrap_socket(raw, server_hostname=host) as line,
        ):
            found = line.getpeercert(binary_form=True)
            version = line.version()
    except (OSError, ssl.SSLError) as error:
        yield "problem", f"TLS fails: {error}", out_of_date(error) or "check the address, the CA and SSL_CERT_FILE"
        return
    ends = x509.load_der_x509_certificate(found or b"").not_valid_after_utc
    authority = folder.authority()
    if authority is not None:
        ends = min(ends, x509.load_pem_x509_certificate(authority.read_bytes()).not_valid_after_utc)
    soon = ends - now < timedelta(days=CERTIFICATE_DAYS)
    words = f"{version}; the coordinator's certificate ends on {ends:%Y-%m-%d}"
    yield (
        "warning" if soon else "ok",
        words,
        "tell the coordinator's admin: `consilium coordinator certificate`" if soon else "",
    )


def _data(folder: Folder, now: datetime) -> Iterator[Found]:
    journal = Journal(folder.journal)
    try:
        if not journal.sound():
            yield UNREAD
            return
        desk = Desk(folder, journal)
        studies = [desk.standing(name, now) for name in desk.offered()]
        approved = [one for one in studies if one.word == "approved"]
        if not approved:
            yield "ok", f"{len(studies)} studies offered, none approved: no table is read", ""
        found: dict[Found, list[str]] = {}
        for one in approved:
            found.setdefault(_read(desk, one.study, folder), []).append(one.study)
        for (level, words, remedy), names in found.items():
            yield level, f"{', '.join(names)}: {words}", remedy.format(study=names[0]) if remedy == ASK else remedy
    finally:
        journal.close()


def _read(desk: Desk, study: str, folder: Folder) -> Found:
    """How the data are for one study, without its name: what is so for several is told once."""
    plan = desk.plan(study).study
    least = max(plan.min_patients, folder.policy().min_patients)
    try:
        report, enough = tables.checked(plan, desk.mapping(study), least, folder.extracts / study)
    except ConsiliumError as error:
        return "problem", error.message, error.remedy
    if not enough:
        return "problem", f"fewer than {least} training patients", ASK
    if not report.usable:
        return "warning", "some of the data do not fit", ASK
    return "ok", f"{report.read} rows read, training patients: {report.training}", ""


def _refused(folder: Folder, now: datetime) -> Iterator[Found]:
    try:
        with closing(Journal(folder.journal)) as journal:
            found = refused.standing(journal)
    except (ConsiliumError, DatabaseError):  # its own check says why
        yield "ok", "not looked at: the journal cannot be read", ""
        return
    if not found:
        yield "ok", "no run waits because of what was refused here", ""
    for one in found:
        words = f"round {one['round']} of {one['run']} was refused here ({one['reason']})"
        yield "warning" if one["next"] else "ok", words, one["next"]


def _agent(folder: Folder, now: datetime) -> Iterator[Found]:
    if running(folder):
        yield ("problem", contact.TWIN, contact.TWIN_NEXT) if contact.twin(folder) else ("ok", "the agent runs", "")
    else:
        yield "warning", "no agent runs in this folder", "start it with `consilium site run`"


CHECKS: tuple[Callable[[Folder, datetime], Iterator[Found]], ...] = (
    _versions, _permissions, _key, _disk, _policy, _confinement, _journal, _budget, _proxy, _certificate, _coordinator,
    _data, _refused, _agent,
)  # fmt: skip
