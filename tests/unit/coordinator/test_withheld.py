"""Rounds over different hospitals: of their figures no hospital's own follow by subtraction."""

import json
from datetime import UTC, datetime
from itertools import combinations
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from consilium.console.cli import study as commands
from consilium.console.cli import watching
from consilium.coordinator.withheld import KEY, OTHERS, lacking, over_others
from consilium.core.study import Study
from consilium.core.unlearned import sentences
from consilium.documents.report import Report
from consilium.privacy.secagg import Open, Ready
from unit.documents.runs import STUDY, judged, result, simulated, usual

SITES = ("east", "north", "south", "upland", "west")
ROUND = st.sets(st.sampled_from(SITES), min_size=3)


def entry(number: int, took_part: set[str], **more: Any) -> dict[str, Any]:
    n = sum(25 + SITES.index(site) for site in took_part)
    figures = {"all": {"auroc": {"n": n}} if took_part else {}, "sites": {}, "clipped": 0}
    return {"round": number, "took_part": sorted(took_part), "figures": figures, **more}


@given(st.lists(ROUND | st.just(set()), min_size=1, max_size=6))
def test_figures_that_are_told_are_all_over_the_hospitals_of_the_last_round(rounds: list[set[str]]) -> None:
    found = over_others([*map(entry, range(1, len(rounds) + 1), rounds), {"round": 9, "took_part": ["east"]}])
    told = [one for one in found if (one.get("figures") or {}).get("all")]
    assert len({json.dumps(one["figures"]["all"]) for one in told}) <= 1, "no two differ"
    assert not told or told[-1]["round"] == max(at for at, sites in enumerate(rounds, 1) if sites)
    for one, other in combinations(told, 2):
        assert one["took_part"] == other["took_part"]
    for one, sites in zip(found, rounds, strict=False):
        assert one["took_part"] == sorted(sites) and one["figures"]["clipped"] == 0
        assert bool(one["figures"].get("withheld")) == (bool(sites) and one not in told)


def test_the_report_says_of_which_rounds_nothing_is_told_and_why() -> None:
    document = result(usual(), "secure_sum")
    names, after = [*usual()], {"all": judged(1.2, 1975), "sites": {}}
    for one, figures in zip(document["participation"][:2], (after, after), strict=True):
        one |= {"took_part": names[:-1], "figures": figures}
    document["participation"] = over_others(document["participation"])
    report = Report.of(document, datetime(2030, 1, 1, tzinfo=UTC))
    told, page = json.dumps(report.to_json()), report.html()
    assert "1975" not in told + page and "2000" in told
    assert "after 0 and 1 rounds of training are not told" in page and "can subtract" in page
    rounds = report.tables()["rounds"]
    assert [row["round"] for row in rounds if row.get("note") == OTHERS] == [1, 2]
    assert {row["n"] for row in rounds if row.get("metric") == "auroc"} == {2000}


NUMBER = {"type": "number", "unit": "1", "range": [0, 100]}
PREPARED = Study.model_validate({
    **STUDY.model_dump(mode="json", by_alias=True, exclude_none=True), "contract": {
        "id": "some", "features": [
            *({"id": name, "meaning": name, **NUMBER, "missing": "allowed"} for name in ("age", "bmi")),
            {"id": "dose", "meaning": "dose", **NUMBER, "missing": "forbidden"},
            {
                "id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "f", "m": "m"},
                "missing": "forbidden",
            },
        ],
        "label": {"id": "ill", "meaning": "ill", "type": "binary"},
    },
    "prepare": {
        "numbers": "standardise", "missing": "impute",
        "harmonise": {"numbers": ["dose"], "keep": ["sex"], "empirical_bayes": False},
    },
})  # fmt: skip


def called(*lacks: tuple[str, ...], kind: str = "PREPARE") -> dict[str, Any]:
    """What a round says of its sum, whose hospitals lack these."""
    none, sites = "sha256:" + "0" * 64, SITES[: len(lacks)]
    asked = Open.model_construct(cohort=sites, min_sites=3, state=none, kind=kind)
    ready = [
        Ready(ctx=b"", site=site, nonce=b"", own_hash=b"", lacks=of) for site, of in zip(sites, lacks, strict=True)
    ]
    return lacking(asked, ready, PREPARED)


def test_of_what_nothing_is_learned_is_said_in_words_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a round of preparation tells by name: once as it is watched, with a result, and first in the report."""
    document = result(usual(), "secure_sum")
    plain = Report.of(document, datetime(2030, 1, 1, tzinfo=UTC))
    assert watching.unlearned(document) == [] and "learned of" not in plain.html() and not plain.to_json()["unlearned"]
    few = ("age", "to-harmonise-sex"), (), ("age", "bmi", "to-harmonise-sex")
    first = entry(1, {"east", "north", "south"}, kind="PREPARE", roster=["east", "north", "south"], closed=True)
    first["figures"] |= called(*few)
    document["participation"] = [first | {"took_part": first["roster"]}, *document["participation"]]
    told = watching.unlearned(document, said := set())
    assert len(told) == 2 and not watching.unlearned(document, said), "once"
    assert (
        "Nothing is learned of age, bmi: so few hospitals have values" in told[0]
        and "by the contract's range" in told[0]
    )
    assert "harmonised without sex: " in told[1] and "or ask more hospitals." in told[1]
    here, figures = mock.Mock(), document["figures"]
    here.run().result.return_value = mock.Mock(document=document, figures=figures, sites={}, regression=lambda: None)
    here.run().federation.study().approved().study = STUDY
    monkeypatch.setattr(commands, "federation", lambda: here)
    shown = CliRunner().invoke(commands.result, ["heart-1"])
    assert shown.exit_code == 0 and all(line in shown.output for line in told), shown
    report = Report.of(document, datetime(2030, 1, 1, tzinfo=UTC))
    (found,) = (one for one in report.findings.found if one.id == "warning-not-learned")
    assert all(line.removeprefix(f"{document['run']}: ") in found.text for line in told)
    assert report.to_json()["unlearned"] == ["age", "bmi", "to-harmonise-sex"]
    document = simulated(usual())
    document["rounds"][0] |= {"kind": "PREPARE", "withheld": ["age", "held-out"]}
    report = Report.of(document, datetime(2030, 1, 1, tzinfo=UTC))
    assert [one.id for one in report.findings.found if "learned" in one.text] == ["note-not-learned"]
    all_of_it = called(*[("to-harmonise", "to-harmonise-sex")] * 3)["not_learned"]
    assert [one.partition(":")[0] for one in sentences(all_of_it)] == ["Numbers are not harmonised"]


def test_a_round_without_figures_says_why_and_so_do_result_and_report() -> None:
    assert called((), ("held-out",), (), (), ()) == {} == called(("held-out",), (), (), (), ())  # four open a sum
    assert called((), ("age",), ("age",), (), ()) == {"not_learned": ["age"]}
    strange = ("age", "All_figures_are_wrong", "to-harmonise-All-is-wrong", "with-event")
    assert called(*[strange] * 3) == {"not_learned": ["age"]}, "of names that the study has, and no words of others"
    assert called(*[strange] * 3, kind="TRAIN") == {}, "and of rounds that learn it"
    few = called((), ("held-out",), ())
    assert few[KEY].startswith("withheld: of fewer than 3 hospitals")
    document = result(usual(), "secure_sum")
    for one in document["participation"]:
        one["figures"] = {"all": {}, "sites": {}, **few}
    document |= {"figures": None, "judged": None, "evaluation": None}
    page = Report.of(document, datetime(2030, 1, 1, tzinfo=UTC)).html()
    assert "rounds of training there are no figures, withheld: of fewer than 3" in page and "can subtract" not in page
    assert few[KEY] in watching.judged(document)
