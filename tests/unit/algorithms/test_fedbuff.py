"""FedBuff: by hand from its paper, and what is late is used, and counts for less."""

import numpy as np
import pytest

from consilium.algorithms.base import Here, Local
from consilium.algorithms.fedbuff import FedBuff
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.testing.trainers import a_study


def test_one_round_by_hand() -> None:
    """Algorithm 1: w + eta * mean of s(tau) d, s(3) = 1/2; d = [2], made anew, and [4], begun three rounds ago."""
    buff = FedBuff({"enough": 2, "server_learning_rate": 0.5})
    here = Here(buff.init(np.ones(1)), number=5)
    fresh, kept = buff.contribution(here, Local((np.array([3.0]),), 10.0, 1, 0.1))
    assert float(kept["round"][0]) == 5.0 and float(fresh["delay"][0]) == 0.0
    early = Here(buff.init(np.zeros(1)), number=2)
    _, waits = buff.contribution(early, Local((np.array([4.0]),), 30.0, 1, 0.1))
    (only,) = buff.passes(Here(here.state, number=5, late=waits))
    assert not only.trained and only.start is here.state["model"], "figures are of the round's model"
    late, again = buff.contribution(Here(here.state, number=5, late=waits), Local((here.model,), 30.0, 1, 0.1))
    assert all(np.array_equal(again[name], waits[name]) for name in waits), "it waits as it was made"
    sums = {name: fresh[name] + late[name] for name in ("update", "delay")}
    after = buff.apply_chunk(dict(here.state), sums, 40.0)
    assert np.isclose(after["model"][0], 1 + 0.5 * (10 * 2 + 30 * 4 / 2) / 40)
    assert np.isclose(after["delay"][0], 30 * 3 / 40)


def test_a_study_that_would_mix_models_in_one_sum_or_close_below_its_quorum_is_refused_by_name() -> None:
    plain = a_study("binary", {"kind": "logistic"}, epochs=1).model_dump(mode="json") | {"quorum": 3}

    def asked(enough: int, privacy: dict[str, object], **more: object) -> Study:
        strategy = {"name": "fedbuff", "options": {"enough": enough}}
        return Study.model_validate({**plain, "strategy": strategy, "privacy": privacy, **more})

    assert asked(4, {"recipe": "plain"}).enough == 4
    for privacy in ({"recipe": "secure_sum"}, {"recipe": "plain", "epsilon": 4.0, "noise": "at_each_hospital"}):
        with pytest.raises(ValueError, match=r"`strategy\.name` fedbuff counts updates that were trained at earlier"):
            asked(4, {**privacy, "expected_patients": 50} if "epsilon" in privacy else privacy)
    for enough, sites in ((2, ()), (4, ("a", "b", "c"))):
        with pytest.raises(ValueError, match=r"`strategy\.options\.enough` \d must be at least `quorum`, 3"):
            asked(enough, {"recipe": "plain"}, sites=sites)
    with pytest.raises(StudyInvalid, match="enough"):
        FedBuff({})
