"""Who took part in what follows from the audit log alone: each round that closed, and why without whom."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.governance.participation import FAILED, KEYLESS, REMOVED, SHAPES, SILENT, UNASKED, Gap, attended

Json = dict[str, Any]
SITES = ("east", "north", "west")


def entry(kind: str, at: str = "2030-01-01T00:00:00+00:00", **body: Any) -> Json:
    return {"kind": kind, "at": at, "body": body}


def begun(*more: Json) -> list[Json]:
    said = [entry("decision", site=site, study="s", plan="p", decision="approve", person="Vera") for site in SITES]
    return [entry("study", study="s", plan="p", by="nora"), *said, entry("run", run="s-1", plan="p", by="nora"), *more]


def closed(number: int, took_part: Any = ("east", "north"), asked: Any = SITES) -> list[Json]:
    return [
        entry("round-opened", run="s-1", round=number, roster=list(asked)),
        entry(
            "round-closed", f"2030-01-01T00:{number:02}:00+00:00", run="s-1", round=number, took_part=list(took_part)
        ),
    ]


BODY = {"run": "s-1", "study": "s", "round": 1}
WHY = {
    SILENT: [],
    REMOVED: [entry("remove", site="west", by="ada")],
    "its people revoked": [entry("decision", site="west", study="s", plan="p", decision="revoke")],
    "it refused (disk)": [entry("refusal", site="west", reason="disk", **BODY)],
    KEYLESS: [entry("round-closed", run="s-1", round=0, took_part=["east", "north"])],
}
UNASKED_WHY = {
    UNASKED: [],
    FAILED: [entry("attestation", site="west", study="s", contract="c", passed=False)],
    "it was not asked: north refused a sum with others (difference)": [
        entry("refusal", site="north", reason="difference", **BODY)
    ],
}


@pytest.mark.parametrize("why", [*WHY, *UNASKED_WHY])
def test_a_round_without_a_hospital_says_since_when_and_why(why: str) -> None:
    asked = SITES if why in WHY else SITES[:2]
    log = begun(*(WHY | UNASKED_WHY)[why], *closed(1, asked=asked))
    (run,) = attended(log)[0].runs
    west = run.hospitals[-1]
    assert west.hospital == "west" and west.left_out == (Gap((1,), why, "2030-01-01T00:01:00+00:00"),)


def test_what_was_decided_is_told_with_who_signed_it_where_the_log_says_so() -> None:
    log = begun(entry("decision", "2030-02-02T00:00:00+00:00", site="west", study="s", plan="p", decision="revoke"))
    (study,) = attended(log)
    assert [(one.hospital, one.decision, one.person) for one in study.decisions][2:] == [
        ("west", "approve", "Vera"), ("west", "revoke", ""),
    ]  # fmt: skip


ROUNDS = st.lists(st.tuples(st.sets(st.sampled_from(SITES)), st.sets(st.sampled_from(SITES))), max_size=12)


@given(ROUNDS, st.lists(st.sampled_from(["step", "answer", "dropped", "person"]), max_size=3))
def test_every_round_that_closed_counts_once_for_each_hospital(rounds: Any, others: list[str]) -> None:
    """Each is in it or left out of it; an attempt that came to nothing counts nowhere; other entries change nothing."""

    def entries() -> Iterator[Json]:
        yield from begun()
        for number, (took_part, asked) in enumerate(rounds, 1):
            yield entry("round-opened", run="s-1", round=number, roster=list(SITES))  # an attempt that was given up
            yield from (entry(kind, run="s-1", site="east", round=number) for kind in others)
            yield from closed(number, took_part, asked | took_part)

    (run,) = attended(entries())[0].runs
    assert run.rounds == len(rounds)
    for one in run.hospitals:
        out = [number for gap in one.left_out for number in gap.rounds]
        assert not any(set(one.part_of) & set(range(gap.rounds[0], gap.rounds[-1])) for gap in one.left_out)
        assert sorted([*one.part_of, *out]) == list(range(1, len(rounds) + 1))
        assert set(one.part_of) == {n for n, (took_part, _) in enumerate(rounds, 1) if one.hospital in took_part}


ODD: list[Any] = [None, True, 1, 1.5, "1", [], [1], ["east"], {}]


@pytest.mark.parametrize("kind", SHAPES)
def test_an_entry_that_is_another_than_of_its_kind_is_refused(kind: str) -> None:
    """Of a body that is a list, and of rounds as text, what is told was made of anything."""
    whole = {str: "s-1", int: 1, bool: True, list: ["east"]}
    right = {name: whole[shape] for name, shape in SHAPES[kind].items()}
    attended([*begun(), entry(kind, **right)])
    for wrong in (*ODD, *({**right, name: odd} for name, shape in SHAPES[kind].items() for odd in ODD
                          if type(odd) is not shape or odd == [1])):  # fmt: skip
        with pytest.raises((KeyError, TypeError)):
            attended([*begun(), {**entry(kind), "body": wrong}])
    assert attended([*begun(), {**entry("later"), "body": [1]}]) == attended(begun()), "other kinds are passed over"


def test_rounds_with_a_hospital_between_them_are_no_gap() -> None:
    log = begun(*(one for number in (1, 2, 3, 4) for one in closed(number, SITES[: 3 if number in (2, 3) else 2])))
    assert [gap.rounds for gap in attended(log)[0].runs[0].hospitals[-1].left_out] == [(1,), (4,)]
