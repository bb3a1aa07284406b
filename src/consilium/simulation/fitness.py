"""Whether hospitals' data serve a simulation; and what the check of a federation, whose gate is none here, says."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

from consilium.core.errors import ConsiliumError, DataUnusable
from consilium.core.study import Study
from consilium.data import quality
from consilium.data.contract import Mapped
from consilium.data.findings import Finding

Json = dict[str, Any]
FEW = "few-patients"
"""Of which simulations have words of their own: a site with too few takes no part."""


@contextmanager
def of(site: str, among: Sized) -> Iterator[None]:
    """Errors say of which hospital they are, where there are several."""
    try:
        yield
    except ConsiliumError as error:
        if len(among) > 1:
            error.message = "\n".join(f"{site}: {line}" for line in error.message.splitlines())
            error.args = (error.message,)
        raise


def blocking(study: Study, found: Mapped) -> tuple[Finding, ...]:
    """Findings for which a federation would not let the hospital train; none where the study has no gate."""
    if study.gate is None:
        return ()
    return tuple(one for one in quality.check(study, found).findings if one.blocks and one.kind != FEW)


def absent(found: Mapped) -> tuple[str, ...]:
    """Features of which the mapping says that the hospital has none."""
    return tuple(name for name, column in found.features.items() if column.absent)


def nobody(site: str, study: Study, found: Mapped) -> DataUnusable:
    """Of whose rows none takes part, and why, as far as the check knows: first by the label."""
    findings = [one for one in quality.check(study, found).findings if one.kind != FEW]
    findings.sort(key=lambda one: (one.where != study.contract.label.id, not one.blocks))
    said = f"{site}: of {found.read} rows none takes part"
    if not findings:
        return DataUnusable(said, "see `consilium site check` of its mapping")
    first = findings[0]
    return DataUnusable(f"{said}: {first.where or 'the table'}: {first.words}", first.remedy)


def told(blocked: Mapping[str, Sequence[Json]], absent: Mapping[str, Sequence[str]]) -> list[str]:
    """What is to be known of hospitals' data, each in one sentence or two; `blocked` as `as_data` has it."""
    kept_out = [
        f"{site}: a federation would not let it train, by the study's gate; here it does. "
        f"{one['where'] or 'The table'}: {one['words']}: {one['remedy']}."
        for site, findings in blocked.items()
        for one in findings
    ]
    return kept_out + [f"{site} has no {', '.join(names)}." for site, names in absent.items()]


def as_data(findings: Mapping[str, tuple[Finding, ...]]) -> dict[str, list[Json]]:
    """By hospital, what each finding is, where, and what to do."""
    return {
        site: [{name: getattr(one, name) for name in ("kind", "where", "words", "remedy")} for one in these]
        for site, these in findings.items()
    }
