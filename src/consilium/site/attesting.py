"""What a hospital says of a check of its data: kept here with every check before it, and signed where a study asks.

Of the check leave: whether it passed, and which kinds of findings there are and where. Without an `epsilon`, which no
number without noise is within, also percents in steps of five, and the number of training patients in tens; and where
the hospital's policy says so, how many were read, left out and held out. Numbers are told by an act of a person, and
repeated by checks after it: of two that differ, the difference may be one patient. No name, code or word of the
hospital's own files, and no exact count.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consilium.core.study import Plan
from consilium.site.folder import Folder
from consilium.site.journal import Journal, Writing
from consilium.wire.envelope import seal, unseal
from consilium.wire.messages import Attestation, Coverage, Flow, Found

if TYPE_CHECKING:
    from consilium.data.counts import Count
    from consilium.data.quality import Report

STEP, TENS = 5, 10
Json = dict[str, Any]


@dataclass(frozen=True)
class Numbers:
    """What a check tells in numbers; None, and no coverage: withheld."""

    patients: int | None = None
    coverage: tuple[Coverage, ...] = ()
    flow: Flow | None = None


def numbers(report: "Report") -> Numbers:
    """Those of a report, but for patients on their way."""
    rows = [(one.id, one.coverage) for one in (*report.features, report.label)]
    coverage = tuple(Coverage(id=name, percent=_coarse(share)) for name, share in rows)
    return Numbers(_tens(report.training) or 0, coverage)


def attestation(
    site: str, plan: Plan, source: str, report: "Report", now: datetime, told: Numbers
) -> Attestation:  # fmt: skip
    """What leaves of a check."""
    return Attestation(
        site=site, study=plan.study.name, plan=plan.digest, contract=plan.study.contract.digest, source=source,
        passed=report.usable, patients=told.patients, coverage=told.coverage,
        findings=tuple(sorted(
            {Found(kind=one.kind, where=one.where, blocks=one.blocks) for one in report.findings},
            key=lambda one: (not one.blocks, one.where, one.kind),
        )),
        flow=told.flow, at=now,
    )  # fmt: skip


def flow(report: "Report") -> Flow:
    """What became of patients, of counts as they may be shown."""
    return Flow(
        read=_tens(report.read), opted_out=None if report.listed is None else _tens(report.opted_out),
        excluded=_tens(report.excluded), immature=_tens(report.immature), without_label=_tens(report.without_label),
        incomplete=_tens(report.incomplete), held_out=_tens(report.test),
    )  # fmt: skip


def _tens(count: "Count") -> int | None:
    """A count in tens, rounded down; None where it is hidden."""
    return count // TENS * TENS if isinstance(count, int) else None


def _coarse(share: str) -> int | None:
    """A percentage in steps of five, rounded down; None where it is hidden."""
    return int(share.rstrip("%")) // STEP * STEP if share.endswith("%") else None


def keep(tx: Writing, plan: Plan, report: "Report", now: datetime, envelope: bytes | None = None) -> None:
    """Remember a check, and send what was signed of it."""
    study = plan.study.name
    tx.do(
        "INSERT INTO checks (study, plan, at, passed, report, envelope) VALUES (?, ?, ?, ?, ?, ?)",
        study, plan.digest, now.isoformat(), int(report.usable), json.dumps(_kept(report)), envelope,
    )  # fmt: skip
    if envelope is not None:
        tx.send("attestation", envelope, {"study": study}, now)


def attest(
    folder: Folder, tx: Writing, plan: Plan, source: str, report: "Report", now: datetime, anew: bool
) -> Attestation:  # fmt: skip
    """Sign what leaves of a check, and send it.

    Args:    anew: whether a person has numbers told as they are now; else those that were told before are repeated.
                   Patients on their way are told once for each plan, in any case.
    """
    told = _numbers(folder, tx, plan, report, anew)
    made = attestation(folder.membership().site, plan, source, report, now, told)
    keep(tx, plan, report, now, seal(Attestation.TYPE, made.encode(), folder.identity()))
    return made


def _numbers(folder: Folder, tx: Writing, plan: Plan, report: "Report", anew: bool) -> Numbers:
    if plan.study.privacy.epsilon is not None:
        return Numbers()
    before = _before(tx, plan, folder.identity().public)
    last = next((Numbers(one.patients, one.coverage) for one in reversed(before) if one.patients is not None), None)
    told = last if last is not None and not anew else numbers(report)
    if not folder.policy().tell_flow:
        return told
    first = next((one.flow for one in before if one.flow is not None), None)
    return Numbers(told.patients, told.coverage, first or flow(report))


def _before(tx: Writing, plan: Plan, key: str) -> list[Attestation]:
    """What was sent of checks before, for this plan."""
    rows = tx.rows("SELECT envelope FROM checks WHERE plan = ? AND envelope IS NOT NULL ORDER BY id", plan.digest)
    return [Attestation.decode(unseal(bytes(row["envelope"]), Attestation.TYPE, [key])) for row in rows]


def _kept(report: "Report") -> Json:
    """What of a report is remembered: counts as they were shown, and findings without the codes that they name."""
    return {
        "training": report.training, "read": report.read,
        "blocking": [f"{one.where or report.study}: {one.kind}" for one in report.findings if one.blocks],
        "advisory": [f"{one.where or report.study}: {one.kind}" for one in report.findings if not one.blocks],
    }  # fmt: skip


def history(journal: Journal, study: str | None = None) -> list[Json]:
    """Every check that was made here, oldest first."""
    rows = journal.rows("SELECT * FROM checks ORDER BY id")
    return [
        {
            "study": row["study"], "plan": row["plan"], "at": row["at"], "passed": bool(row["passed"]),
            "sent": row["envelope"] is not None, **json.loads(row["report"]),
        }
        for row in rows
        if study in (None, row["study"])
    ]  # fmt: skip
