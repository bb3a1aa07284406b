"""How `audit participation` tells who took part in what."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from consilium.console.cli import output
from consilium.core.errors import Invalid, NotFound
from consilium.governance.participation import Gap, Hospital, Run, Study, attended

WORD = (
    "What hospitals decided, and who signed it there, is the coordinator's word. That its log is the one of which they "
    "keep heads shows `consilium audit verify --against`; who signed stands in each hospital's own log, too."
)


def told(
    entries: Iterable[bytes], log: Mapping[str, Any], name: str | None, as_json: bool
) -> tuple[dict[str, Any], bool, str]:
    """What `output.say` takes: the facts, whether as JSON, and the words.

    Args:    entries: of the coordinator's log.   log: what came of checking it.   name: of a study; None: all.
    Raises:  NotFound: the log has no such study.   Invalid: it has entries that this release does not know.
    """
    try:
        found = attended(json.loads(entry) for entry in entries)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise Invalid("the log has entries that are read otherwise", "update Consilium here") from error
    shown = [one for one in found if name in (None, one.study)]
    if name is not None and not shown:
        others = output.plain(", ".join(one.study for one in found) or "none").plain
        raise NotFound(f"the log has no study {name}", f"it has {others}")
    words = [line for one in shown for line in (*_study(one), "")] or ["No study was submitted.", ""]
    words += [f"From {log['entries']} entries of the coordinator's log, head {log['head']}, which hang together.", WORD]
    said = "\n".join(output.plain(line).plain for line in words)  # line by line: others wrote what is in them
    return {**log, "studies": [one.to_json() for one in shown]}, as_json, said


def _study(one: Study) -> list[str]:
    head = f"{one.study}: plan {one.plan}, submitted {_at(one.at)} by {one.by}"
    said = [f"  {each.hospital}: {each.decision} {_at(each.at)}{_by(each.person)}" for each in one.decisions]
    return [head, *(said or ["  No hospital has decided."]), *(line for run in one.runs for line in _run(run))]


def _run(run: Run) -> list[str]:
    ended = f"{run.status} {_at(run.ended)}" if run.ended else run.status
    why = f" ({run.reason})" if run.reason else ""
    head = f"  {run.run}: started {_at(run.started)} by {run.by}, {ended}{why}; {run.rounds} rounds closed"
    return ["", head, *(f"    {_hospital(one)}" for one in run.hospitals)]


def _hospital(one: Hospital) -> str:
    count = len(one.part_of)
    within = f"in {count} round{'s' * (count > 1)} ({ranges(one.part_of)})" if count else "in no round"
    return "; ".join([f"{one.hospital}: {within}", *map(_gap, one.left_out)])


def _gap(gap: Gap) -> str:
    return f"not in {ranges(gap.rounds)}, since {_at(gap.since)}: {gap.why}"


def _by(person: str) -> str:
    return f" by {person}" if person else ""


def _at(moment: str) -> str:
    return f"{moment[:10]} {moment[11:16]} UTC"


def ranges(numbers: Sequence[int]) -> str:
    """Rounds, those in a row as one.

    >>> ranges([1, 2, 3, 5])
    '1-3, 5'
    """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
