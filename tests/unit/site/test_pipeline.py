"""The pipeline believes what it reads from disk and verifies itself, and a child that is killed is not the last one."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from consilium.api import freeze
from consilium.coordinator.perform import strategy
from consilium.core import state as chain
from consilium.core.errors import ConsiliumError, EnvelopeInvalid, Refused
from consilium.core.ids import digest
from consilium.governance.policy import Limits
from consilium.site import pipeline
from consilium.site.child import Child, Died
from consilium.site.guard import Permit
from consilium.site.pipeline import LIVES, Paths, Pipeline
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from e2e.federation import study, table
from unit.site.circle import Here

STATE, ANOTHER = digest(b"the state"), digest(b"another")


class Site:
    """What the guard left on disk for one task: signed permit, plan, mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = Identity.create(folder / "identity.key")
        self.plan, self.weights = freeze(study("sums"))
        (folder / "plan.json").write_bytes(self.plan.payload)
        self.mapping = table(folder / "data", seed=1)
        self.sign(self.permit, self.identity)

    @property
    def permit(self) -> Permit:
        return Permit(
            site="north", study="sums", run="sums-1", round=1, kind="TRAIN", plan=self.plan.digest, state=STATE,
            recipe="plain", wheel=None, min_patients=10, issued=datetime.now(UTC),
        )  # fmt: skip

    def sign(self, permit: Permit, identity: Identity, kind: str = Permit.TYPE) -> None:
        (self.folder / "permit.json").write_bytes(seal(kind, permit.encode(), identity))

    def begun(self) -> None:
        """The initial model and the first state."""
        (self.folder / "initial").write_bytes(self.weights)
        with (self.folder / "state").open("wb") as file:
            chain.begin(strategy(self.plan.study), self.weights, "sums-1", file)

    def paths(self, state: str = STATE) -> Paths:
        files = {name: self.folder / name for name in ("initial", "state")}
        return Paths(
            folder=self.folder, permit=self.folder / "permit.json", plan=self.folder / "plan.json",
            state_digest=state, mapping=self.mapping, **files,
        )  # fmt: skip

    def run(self, state: str = STATE) -> ConsiliumError:
        """The error with which the pipeline ends; it never gets as far as a child process."""
        paths = self.paths(state)
        with pytest.raises(ConsiliumError) as caught:
            Pipeline(self.identity.public, Limits(), Event()).run(paths)
        assert not (self.folder / "child.log").exists() and not (self.folder / "table.npz").exists()
        return caught.value


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def by_another_site(site: Site) -> None:
    site.sign(site.permit, Identity.create(site.folder / "another.key"))


def as_another_type(site: Site) -> None:
    site.sign(site.permit, site.identity, "application/vnd.consilium.task+json")


def one_bit(site: Site) -> None:
    path = site.folder / "permit.json"
    path.write_bytes(path.read_bytes().replace(b'"payload":"ey', b'"payload":"ez', 1))


@pytest.mark.parametrize("forge", [by_another_site, as_another_type, one_bit])
def test_a_forged_permit_serves_for_nothing(site: Site, forge: Callable[[Site], None]) -> None:
    before = (site.folder / "permit.json").read_bytes()
    forge(site)
    assert (site.folder / "permit.json").read_bytes() != before
    assert isinstance(site.run(), EnvelopeInvalid)


@pytest.mark.parametrize("at", range(0, 800, 79))
def test_a_plan_that_changed_by_one_byte_on_disk_is_refused(site: Site, at: int) -> None:
    payload = bytearray(site.plan.payload)
    payload[at] ^= 1
    (site.folder / "plan.json").write_bytes(payload)
    error = site.run()
    assert isinstance(error, Refused) and error.reason == "plan-changed"


def test_a_permit_for_another_state_or_plan_is_refused(site: Site) -> None:
    error = site.run(state=ANOTHER)
    assert isinstance(error, Refused) and error.reason == "state-mismatch"
    site.sign(site.permit.model_copy(update={"plan": ANOTHER}), site.identity)
    error = site.run()
    assert isinstance(error, Refused) and error.reason == "plan-changed"


def test_patients_are_counted_here_and_the_number_in_the_permit_is_kept(site: Site) -> None:
    """The study says ten; the permit, from the hospital's policy, says a thousand."""
    site.sign(site.permit.model_copy(update={"min_patients": 1000}), site.identity)
    error = site.run()
    assert isinstance(error, Refused) and error.reason == "too-few-patients"


def test_a_policy_that_asks_for_more_patients_holds_for_a_child_that_has_them_already(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two rounds the child stays warm: each permit is counted against, not only the first."""
    site.begun()
    monkeypatch.setattr(pipeline, "Child", Here)
    warm = Pipeline(site.identity.public, Limits(), Event())
    assert warm.run(site.paths()).size
    site.sign(site.permit.model_copy(update={"min_patients": 1000}), site.identity)
    for act in (warm.run, warm.alone):
        with pytest.raises(Refused) as caught:
            act(site.paths())
        assert caught.value.reason == "too-few-patients"


class Mortal(Child):
    """A child that is killed as it is asked something, `deaths` times in all; then its successors live."""

    deaths = 0

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        if Mortal.deaths:
            Mortal.deaths -= 1
            self._process.kill()
        return super().ask(command)


@pytest.mark.parametrize("deaths", [0, 1, LIVES - 1, LIVES])
def test_children_may_be_killed_in_one_task_and_the_next_one_gives_the_same_bytes(
    site: Site, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """Whoever kills: a person, a supervisor, a machine that is short of memory for a moment."""
    site.begun()
    monkeypatch.setattr(pipeline, "Child", Mortal)

    def made(deaths: int) -> str:
        Mortal.deaths = deaths
        trained = Pipeline(site.identity.public, Limits(), Event())
        try:
            return trained.run(site.paths()).digest
        finally:
            trained.close()
            assert Mortal.deaths == 0

    calm = made(0)
    if deaths < LIVES:
        assert made(deaths) == calm
    else:
        with pytest.raises(Died):
            made(deaths)
