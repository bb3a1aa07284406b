"""Rounds over different hospitals: of their figures no hospital's own follow by subtraction."""

import json
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consilium.console.cli import watching
from consilium.coordinator.withheld import KEY, OTHERS, lacking, over_others
from consilium.documents.report import Report
from consilium.privacy.secagg import Open, Ready
from unit.documents.runs import STUDY, judged, result, usual

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


def called(*lacks: tuple[str, ...]) -> dict[str, Any]:
    """What a round says of its sum, whose hospitals lack these."""
    none, sites = "sha256:" + "0" * 64, SITES[: len(lacks)]
    asked = Open.model_construct(cohort=sites, min_sites=3, state=none)
    ready = [
        Ready(ctx=b"", site=site, nonce=b"", own_hash=b"", lacks=of) for site, of in zip(sites, lacks, strict=True)
    ]
    return lacking(asked, ready, STUDY)


def test_a_round_without_figures_says_why_and_so_do_result_and_report() -> None:
    assert called((), ("held-out",), (), (), ()) == {} == called(("held-out",), (), (), (), ())  # four open a sum
    assert called((), ("age",), ("age",), (), ()) == {"not_learned": ["age"]}
    few = called((), ("held-out",), ())
    assert few[KEY].startswith("withheld: of fewer than 3 hospitals")
    document = result(usual(), "secure_sum")
    for one in document["participation"]:
        one["figures"] = {"all": {}, "sites": {}, **few}
    document |= {"figures": None, "judged": None, "evaluation": None}
    page = Report.of(document, datetime(2030, 1, 1, tzinfo=UTC)).html()
    assert "rounds of training there are no figures, withheld: of fewer than 3" in page and "can subtract" not in page
    assert few[KEY] in watching.judged(document)
