"""Who took part in what, from the entries of the coordinator's audit log alone: a fold that anybody can do offline.

What is not in an entry is not guessed: of a log of before, who approved is not told, for its entries name no person.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from consilium.core.refusing import OF_SET

Json = Mapping[str, Any]
REMOVED = "it was removed from the federation"
KEYLESS = "it holds no keys of this run: it was not in time when they were agreed"
SILENT = "it was asked, and gave no answer in time"
FAILED = "the newest check of its data did not pass"
UNASKED = "it was not asked: it was away, or its approval had ended"

SHAPES: Mapping[str, Mapping[str, type]] = {
    "study": {"study": str, "plan": str, "by": str},
    "run": {"run": str, "by": str},
    "admit": {"site": str},
    "remove": {"site": str},
    "decision": {"study": str, "site": str, "decision": str},
    "attestation": {"study": str, "site": str, "passed": bool},
    "round-opened": {"run": str, "round": int, "roster": list},
    "round-closed": {"run": str, "round": int, "took_part": list},
    "refusal": {"site": str, "reason": str},
    "run-ended": {"run": str, "status": str, "reason": str},
}
"""Kinds of entries that are looked at, and what must stand in each."""


@dataclass(frozen=True)
class Decided:
    """What a hospital decided on a study's plan, when, and who there signed it, as the coordinator says; empty: the
    entry does not say.
    """

    hospital: str
    decision: str
    at: str
    person: str


@dataclass(frozen=True)
class Gap:
    """Rounds in a row that closed without a hospital, for one reason; when the first of them closed."""

    rounds: tuple[int, ...]
    why: str
    since: str


@dataclass(frozen=True)
class Hospital:
    """One hospital in one run. keys: whether it holds keys of the run; None: none were agreed."""

    hospital: str
    keys: bool | None
    asked: int
    part_of: tuple[int, ...]
    left_out: tuple[Gap, ...]


@dataclass(frozen=True)
class Run:
    """One run: who started it, what became of it, how many rounds closed, and each hospital's part."""

    run: str
    by: str
    started: str
    status: str
    ended: str
    reason: str
    rounds: int
    hospitals: tuple[Hospital, ...]


@dataclass(frozen=True)
class Study:
    """One study: whose it is, what each hospital decided, in order, and its runs."""

    study: str
    plan: str
    by: str
    at: str
    decisions: tuple[Decided, ...]
    runs: tuple[Run, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class _Run:
    """A run while its entries are read."""

    run: str
    by: str
    started: str
    status: str = "going on"
    ended: str = ""
    reason: str = ""
    asked: dict[int, set[str]] = field(default_factory=dict)
    asked_ever: dict[str, set[int]] = field(default_factory=dict)
    refused: dict[tuple[str, int], str] = field(default_factory=dict)
    cohort: set[str] | None = None
    part_of: dict[str, list[int]] = field(default_factory=dict)
    out: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)

    def done(self) -> Run:
        """The same, to be read."""
        sites = sorted({*self.asked_ever, *self.part_of, *self.out})
        every = tuple(
            Hospital(
                site, None if self.cohort is None else site in self.cohort, len(self.asked_ever.get(site, ())),
                part_of := tuple(sorted(set(self.part_of.get(site, ())))), _gaps(self.out.get(site, []), part_of),
            )
            for site in sites
        )  # fmt: skip
        return Run(self.run, self.by, self.started, self.status, self.ended, self.reason, len(self.closed), every)


def _gaps(missed: list[tuple[int, str, str]], part_of: tuple[int, ...]) -> tuple[Gap, ...]:
    found: list[Gap] = []
    for number, why, at in missed:
        if found and found[-1].why == why and bisect(part_of, found[-1].rounds[-1]) == bisect(part_of, number):
            found[-1] = Gap((*found[-1].rounds, number), why, found[-1].since)
        else:
            found.append(Gap((number,), why, at))
    return tuple(found)


@dataclass
class _Study:
    study: str
    plan: str
    by: str
    at: str
    decisions: list[Decided] = field(default_factory=list)
    standing: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    runs: dict[str, _Run] = field(default_factory=dict)


def attended(entries: Iterable[Json]) -> tuple[Study, ...]:
    """The studies of a log, in the order in which they came; `entries` as they are parsed, in order, from the first.

    Raises:  KeyError, TypeError: an entry is another one than of its kind.
    """
    fold = _Fold()
    for entry in entries:
        kind, body = str(entry["kind"]), entry["body"]
        if kind in SHAPES:
            _check(kind, body)
            fold.take(kind, body, str(entry["at"]))
    return tuple(
        Study(one.study, one.plan, one.by, one.at, tuple(one.decisions), tuple(run.done() for run in one.runs.values()))
        for one in fold.studies.values()
    )


def _check(kind: str, body: Any) -> None:
    for name, shape in SHAPES[kind].items():
        names: Any = body[name] if shape is list else ()
        if type(body[name]) is not shape or not all(isinstance(one, str) for one in names):
            raise TypeError(f"{name} of {kind} is no {shape.__name__}")
    if kind == "refusal" and type(body.get("round")) not in (int, type(None)):
        raise TypeError("round of refusal is no int")


@dataclass
class _Fold:
    studies: dict[str, _Study] = field(default_factory=dict)
    whose: dict[str, _Study] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def take(self, kind: str, body: Json, at: str) -> None:
        """One more entry."""
        study = self.whose.get(str(body.get("run"))) or self.studies.get(str(body.get("study")))
        if kind == "study":
            self.studies.setdefault(body["study"], _Study(body["study"], body["plan"], body["by"], at))
        elif kind == "run":
            name = str(body["run"]).rpartition("-")[0]
            if (of := self.studies.get(name)) is not None:
                of.runs[body["run"]] = _Run(body["run"], body["by"], at)
                self.whose[body["run"]] = of
        elif kind in ("admit", "remove"):
            (self.removed.add if kind == "remove" else self.removed.discard)(body["site"])
        elif study is not None:
            self._of_study(study, kind, body, at)

    def _of_study(self, study: _Study, kind: str, body: Json, at: str) -> None:
        run = study.runs.get(str(body.get("run")))
        if kind == "decision":
            person = str(body.get("person") or "")
            study.decisions.append(Decided(body["site"], body["decision"], at, person))
            study.standing[body["site"]] = body["decision"]
        elif kind == "attestation":
            (study.failed.discard if body["passed"] else study.failed.add)(body["site"])
        elif run is None:
            return
        elif kind == "round-opened":
            run.asked[body["round"]] = set(body["roster"])
            for site in body["roster"]:
                run.asked_ever.setdefault(site, set()).update({body["round"]} - {0})
        elif kind == "refusal" and body.get("round") is not None:
            run.refused[body["site"], body["round"]] = body["reason"]
        elif kind == "round-closed":
            self._closed(study, run, body["round"], set(body["took_part"]), at)
        elif kind == "run-ended":
            run.status, run.ended, run.reason = body["status"], at, body["reason"]

    def _closed(self, study: _Study, run: _Run, number: int, took_part: set[str], at: str) -> None:
        if number == 0:
            run.cohort = took_part
            return
        run.closed.add(number)
        approving = {site for site, said in study.standing.items() if said == "approve"}
        for site in {*run.asked_ever, *approving, *took_part}:
            if site in took_part:
                run.part_of.setdefault(site, []).append(number)
            else:
                run.out.setdefault(site, []).append((number, self._why(study, run, number, site), at))

    def _why(self, study: _Study, run: _Run, number: int, site: str) -> str:
        """Why a round closed without a hospital, as far as entries say."""
        said = study.standing.get(site, "approve")
        others = sorted(
            other for (other, at), why in run.refused.items() if at == number and why in OF_SET and other != site
        )
        if site in self.removed:
            return REMOVED
        if said != "approve":
            return f"its people {said}d"
        if (reason := run.refused.get((site, number))) is not None:
            return f"it refused ({reason})"
        if run.cohort is not None and site not in run.cohort:
            return KEYLESS
        if site in run.asked.get(number, ()):
            return SILENT
        if others:
            return f"it was not asked: {', '.join(others)} refused a sum with others ({run.refused[others[0], number]})"
        return FAILED if site in study.failed else UNASKED
