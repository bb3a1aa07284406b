"""What a study's own code puts into a contribution beside the update does not leave the site (see smuggler.py)."""

import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from consilium import plugins
from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.core.update import Contribution
from consilium.governance.policy import Limits
from consilium.site.guard import Permit
from consilium.site.pipeline import Paths, Pipeline
from consilium.training import sandbox
from consilium.training.initial import initial_model
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from e2e import smuggler
from e2e.federation import study, table

pytest.importorskip("torch")
WHY_NOT = sandbox.available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
TRAINING = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1, "seed": 5}


class Site:
    """A hospital whose person approved the smuggler's wheel: what guard and state chain leave on disk for one run."""

    def __init__(self, folder: Path, seed: int = 5) -> None:
        self.folder, self.identity = folder, Identity.create(folder / "identity.key")
        wheel = folder / "code.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("guest.py", Path(smuggler.__file__).read_text())
            archive.writestr("guest-1.dist-info/entry_points.txt", "[consilium.architectures]\nnet = guest:net\n")
        twin = {"kind": "torch", "architecture": "mlp", "options": {"hidden": [4]}}
        initial = initial_model(study("sly", model=twin, training={**TRAINING, "seed": seed}))
        model = {
            "kind": "torch", "architecture": "net", "wheel": digest(wheel.read_bytes()), "initial": digest(initial)
        }  # fmt: skip
        self.plan = Plan.of(study("sly", model=model, training=TRAINING, rounds=len(smuggler.WAYS)))
        (folder / "plan.json").write_bytes(self.plan.payload)
        (folder / "initial.safetensors").write_bytes(initial)
        with (folder / "state.safetensors").open("wb") as file:
            self.state, _ = chain.begin(plugins.load("consilium.strategies", "fedavg")({}), initial, "sly-1", file)
        self.mapping = table(folder / "data", seed=1)
        self.pipeline = Pipeline(self.identity.public, Limits(), Event())

    def run(self, number: int) -> Contribution:
        """What the pipeline gives for a round."""
        permit = Permit(
            site="north", study="sly", run="sly-1", round=number, kind="TRAIN", plan=self.plan.digest,
            state=self.state, recipe="plain", wheel=self.plan.study.model.wheel, min_patients=10,
            issued=datetime.now(UTC),
        )  # fmt: skip
        (self.folder / "permit.json").write_bytes(seal(Permit.TYPE, permit.encode(), self.identity))
        return self.pipeline.run(
            Paths(
                folder=self.folder, permit=self.folder / "permit.json", plan=self.folder / "plan.json",
                initial=self.folder / "initial.safetensors", state=self.folder / "state.safetensors",
                state_digest=self.state, mapping=self.mapping, wheel=self.folder / "code.whl",
            )
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.pipeline.close()


def test_a_first_model_that_the_code_does_not_make_from_its_seed_is_not_trained(tmp_path: Path) -> None:
    made = Site(tmp_path, seed=6)
    with pytest.raises(Refused) as caught:
        made.run(1)
    made.pipeline.close()
    assert caught.value.reason == "initial-model" and not list(tmp_path.glob("update-*"))


def test_only_an_update_leaves_whatever_else_the_code_makes(site: Site) -> None:
    left = {}
    for number, way in enumerate(smuggler.WAYS, start=1):
        try:
            left[way] = site.run(number)
        except Refused as error:
            assert error.reason == "contribution", way
            assert smuggler.MARK not in str(error) and "patients" not in str(error).replace("over patients", "")
    assert set(left) == {"honest", "honest again"}
    one, again = (left[way].path.read_bytes() for way in left)
    assert len(one) == len(again) and smuggler.MARK.encode() not in one
    said = (site.folder / "child.log").read_text()
    assert "Traceback" not in said and len(list(site.folder.glob("update-*"))) == len(smuggler.WAYS), said
