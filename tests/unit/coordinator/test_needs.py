"""What a sum is made of: in sorted order of sites, in parts only where each part may be looked at by itself."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.coordinator import perform
from consilium.coordinator.perform import BATCH, Needs, Performer
from consilium.core.ids import SiteId, digest
from consilium.core.round import Kind
from consilium.store.blobs import Stored
from e2e.federation import study

SITES = tuple(SiteId(f"h{number:03}") for number in range(2 * BATCH + 1))
STATE = digest(b"a state")


class Rows:
    """A database that gives rows in no order."""

    def rows(self, *_: Any, **__: Any) -> list[Any]:
        found = [SimpleNamespace(site=site, digest=digest(site.encode()), size=100) for site in SITES]
        return [*found[1::2], *found[::2][::-1], SimpleNamespace(site="late", digest=STATE, size=1 << 40)]

    def find(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(state=STATE)


def needs(monkeypatch: pytest.MonkeyPatch, strategy: str) -> Needs:
    monkeypatch.setattr(perform, "size_of", lambda *_: 100)
    round_ = SimpleNamespace(number=1, kind=Kind.TRAIN, counted=dict.fromkeys(SITES, STATE))
    plan = SimpleNamespace(study=study("sums", quorum=3, strategy={"name": strategy}, privacy={"recipe": "plain"}))
    conduct = SimpleNamespace(run="sums-1", plan=plan, fold=SimpleNamespace(round=round_))
    return Needs(cast(Any, Rows()), cast(Any, conduct), cast(Any, None))


def test_they_are_summed_in_sorted_order_of_sites_and_only_those_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay must give the same bits, whatever order a database gives rows in."""
    found = needs(monkeypatch, "fedavg")
    assert [site for site, _ in found.contributions] == list(SITES) and found.largest == 100


@pytest.mark.parametrize(("strategy", "most"), [("fedavg", BATCH), ("median", len(SITES))])
def test_who_looks_at_single_updates_looks_at_all_of_them(
    monkeypatch: pytest.MonkeyPatch, strategy: str, most: int
) -> None:
    """A median of the first 64 hospitals, and of that and the next, is no median of all."""
    found = needs(monkeypatch, strategy)
    batches = found.batches(1000)
    assert max(map(len, batches)) == most and [one for part in batches for one in part] == found.contributions
    assert len(found.batches(99)) == 1, "large ones are files, and not read into memory"


def test_masks_fall_away_in_the_sum_of_all_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    found = needs(monkeypatch, "fedavg")
    found.sealed = cast(Any, object())
    assert len(found.batches(1000)) == 1


def test_at_which_models_the_next_round_is_asks_for_the_kind_of_that_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Kind]()
    monkeypatch.setattr(perform.question, "models", lambda study, kind, state: asked.append(kind) or [])
    plan = cast(Any, SimpleNamespace(study=study("sums", rounds=2, privacy={"recipe": "secure_sum"}, quorum=3)))
    performer = Performer(cast(Any, None), cast(Any, None), "here")
    for number in range(1, 5):
        performer._models(plan, number, Stored(STATE, 1, b"x"))
    assert asked == [Kind.TRAIN, Kind.TRAIN, Kind.EVALUATE, Kind.EVALUATE]
