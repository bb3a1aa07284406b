"""What a hospital says of a check of its data: kept here with every check before it, and signed where a study asks.

Of the check leave: whether it passed, which kinds of findings there are and where, percents in steps of five, and the
number of training patients in tens; where the hospital's policy says so, also how many were read, left out and held
out. No name, code or word of the hospital's own files, and no exact count.
"""

import json
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


def attestation(
    site: str, plan: Plan, source: str, report: "Report", now: datetime, flow: Flow | None = None
) -> Attestation:
    """What leaves of a check."""
    rows = [(one.id, one.coverage) for one in (*report.features, report.label)]
    return Attestation(
        site=site, study=plan.study.name, plan=plan.digest, contract=plan.study.contract.digest, source=source,
        passed=report.usable, patients=_tens(report.training) or 0,
        coverage=tuple(Coverage(id=name, percent=_coarse(share)) for name, share in rows),
        findings=tuple(sorted(
            {Found(kind=one.kind, where=one.where, blocks=one.blocks) for one in report.findings},
            key=lambda one: (not one.blocks, one.where, one.kind),
        )),
        flow=flow, at=now,
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


def attest(folder: Folder, tx: Writing, plan: Plan, source: str, report: "Report", now: datetime) -> Attestation:
    """Sign what leaves of a check, and send it.

    Patients on their way are told once for each plan: later checks repeat it. Two that differ by few would show them.
    """
    way = (_told(tx, plan, folder.identity().public) or flow(report)) if folder.policy().tell_flow else None
    told = attestation(folder.membership().site, plan, source, report, now, way)
    keep(tx, plan, report, now, seal(Attestation.TYPE, told.encode(), folder.identity()))
    return told


def _told(tx: Writing, plan: Plan, key: str) -> Flow | None:
    """What was told of patients on their way before, for this plan."""
    rows = tx.rows("SELECT envelope FROM checks WHERE plan = ? AND envelope IS NOT NULL ORDER BY id", plan.digest)
    before = (Attestation.decode(unseal(bytes(row["envelope"]), Attestation.TYPE, [key])) for row in rows)
    found: Flow | None = next((told.flow for told in before if told.flow is not None), None)
    return found


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
