"""What a hospital remembers as the same question, however it is asked: by its patients, and by the model."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import SiteId, digest
from consilium.core.study import Study
from consilium.core.tensors import to_safetensors
from consilium.governance.policy import Policy
from consilium.privacy import question
from consilium.privacy.disclosure import Summed
from consilium.site import told
from consilium.site.journal import Journal
from consilium.training import drawn
from consilium.wire.messages import Blob, Task
from e2e.federation import study

FOUR = frozenset(map(SiteId, ("east", "north", "south", "west")))
THREE = FOUR - {"west"}
NUMBER = {"type": "number", "unit": "1", "range": [-10, 10], "missing": "forbidden"}
NUMBERS = {"id": "sums", "features": [{"id": "x", "meaning": "x", **NUMBER}, {"id": "y", "meaning": "y", **NUMBER}],
           "label": {"id": "z", "meaning": "z", "type": "number", "unit": "1", "range": [-10, 10]}}  # fmt: skip
LINE: dict[str, Any] = {"model": {"kind": "linear"}, "contract": NUMBERS}
TIMES: dict[str, Any] = {
    "model": {"kind": "cox"}, "strategy": {"name": "webdisco", "options": {"every": 7, "until": 365, "least": 1}},
    "contract": {
        "id": "sums", "features": [{"id": one, "meaning": one, **NUMBER} for one in "xyz"],
        "label": {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, 400]},
    },
}  # fmt: skip


class Memory:
    """A hospital's journal, policy and mapping, and what is asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal = folder, Journal(folder / "journal.sqlite")
        self.policy = Policy.model_validate({"policy": 1})
        self.mapped()

    def mapped(self, **changes: Any) -> None:
        """The mapping is written anew."""
        given: dict[str, Any] = {
            "mapping": 1, "contract": "sums", "source": {"type": "csv", "path": "table.csv"},
            "patient": {"column": "id"}, "features": {"x": {"column": "x"}}, "label": {"column": "large"}, **changes,
        }  # fmt: skip
        self.mapping = self.folder / f"{digest(json.dumps(given).encode()).removeprefix('sha256:')[:8]}.yaml"
        self.mapping.write_text(json.dumps(given))

    def asked(self, of: Study, kind: str, model: Any, number: int = 1) -> tuple[Task, dict[str, Any]]:
        out = io.BytesIO()
        chain.begin(
            plugins.strategy_of(of), to_safetensors({"weights": np.array(model, dtype=np.float64)}), "one-1", out
        )
        state = self.folder / "state"
        state.write_bytes(out.getvalue())
        blob = Blob(digest=digest(out.getvalue()), size=len(out.getvalue()))
        task = Task(
            study=of.name, run=f"{of.name}-1", plan=digest(b"plan"), round=number, attempt=1, kind=kind, phase="READY",
            roster=tuple(sorted(FOUR)), cohort=tuple(sorted(FOUR)), state=blob, initial=blob, aggregate=None,
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip
        return task, told.question(task, of, self.mapping, state, self.policy)

    def opened(self, sites: Any, of: Study | None = None, kind: str = "TRAIN", model: Any = (0.0, 0.0, 0.0)) -> None:
        """A sum over these sites is opened, if the memory allows it. Raises: Refused."""
        task, asked = self.asked(of or study("one"), kind, model)
        sums = told.check(self.journal, asked, sites)
        with self.journal.write() as tx:
            told.keep(tx, task, asked, sums)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def refused(memory: Memory, *given: Any, **named: Any) -> None:
    with pytest.raises(Refused) as caught:
        memory.opened(*given, **named)
    assert caught.value.reason == "difference"


def test_one_input_more_is_the_same_question_where_its_coefficient_is_zero(memory: Memory) -> None:
    """At zero each input is summed as if there were no other; elsewhere, where the place more is zero."""
    memory.opened(FOUR)
    refused(memory, THREE, study("two"), model=(0.0,) * 4)
    memory.opened(FOUR, model=(0.5, -2.0, 0.25))
    refused(memory, THREE, study("two"), model=(0.5, -2.0, 0.0, 0.25))
    refused(memory, THREE, study("two"), model=(0.25, 0.5, -2.0))  # its inputs stand in another order
    memory.opened(THREE, study("two"), model=(0.5, -2.0, 0.26))


def test_a_start_that_is_drawn_is_another_question_and_hospitals_are_in_sums_over_one_set_there_too(
    memory: Memory,
) -> None:
    model = {"kind": "logistic", "start": "drawn"}
    memory.opened(FOUR)
    refused(memory, THREE, study("two"))
    for seed, over, others in ((1, THREE, FOUR), (2, FOUR, THREE)):
        of = study(f"drawn-{seed}", model=model, training={"seed": seed})
        first = drawn.first(of, ["x", "y"], 3)
        memory.opened(over, of, model=first)
        refused(memory, others, study("three", model=model), model=first)
    refused(memory, THREE)


def test_another_label_is_the_same_question(memory: Memory) -> None:
    memory.opened(FOUR)
    memory.mapped(label={"column": "large_at_30_days"})
    refused(memory, THREE, study("two"))


@pytest.mark.parametrize(
    "source",
    [
        {"type": "csv", "path": "extract-of-may.csv"},
        {"type": "sql", "url": "sqlite:///ward.db", "query": "SELECT * FROM patients WHERE id <> 7"},
    ],
)
def test_an_edited_mapping_is_the_same_question(memory: Memory, source: dict[str, str]) -> None:
    memory.opened(FOUR)
    memory.mapped(source=source)
    refused(memory, THREE, study("two"))


def test_patients_whom_the_policy_names_apart_are_others_unless_they_come_from_one_table(memory: Memory) -> None:
    memory.mapped(source={"type": "csv", "path": "heart.csv"}, patients="heart")
    memory.opened(FOUR)
    budget = {"epsilon": 1.0, "delta": 1e-6}
    memory.policy = Policy.model_validate({"policy": 1, "privacy": {"populations": {"lung": budget}}})
    memory.mapped(source={"type": "csv", "path": "lung.csv"}, patients="lung")
    memory.opened(THREE)
    refused(memory, FOUR)
    memory.mapped(source={"type": "csv", "path": "heart.csv"}, patients="lung")
    refused(memory, THREE)
    memory.mapped(source={"type": "csv", "path": "heart.csv"})
    refused(memory, THREE)
    memory.policy = Policy.model_validate({"policy": 1, "privacy": {"populations": {"lung": budget, "heart": budget}}})
    memory.mapped(source={"type": "csv", "path": "later.csv"}, patients="heart")
    refused(memory, THREE)  # they were told of before they were named apart


def test_what_hangs_on_no_model_is_one_question_at_any(memory: Memory) -> None:
    """Means and squares that prepare inputs, the same in sums at zero, and least squares wherever they begin."""
    linear = study("line", **LINE, strategy={"name": "newton"})
    memory.opened(FOUR, kind="PREPARE", model=(1.0, 2.0))
    refused(memory, THREE, linear, model=(3.0, 4.0))
    refused(memory, THREE, kind="PREPARE", model=(5.0, 6.0))
    refused(memory, THREE)
    memory.opened(FOUR, linear, model=(3.0, 4.0))
    memory.opened(THREE, linear, "EVALUATE", model=(3.5, 4.0))
    memory.opened(THREE, model=(7.0, 8.0))


POISSON: dict[str, Any] = {"model": {"kind": "poisson"}, "contract": {
    **NUMBERS, "label": {"id": "z", "meaning": "z", "type": "count", "unit": "1", "range": [0, 50]},
}}  # fmt: skip


PATH = {"name": "newton-path", "options": {"penalties": [{}, {"l1": 1}]}}


@pytest.mark.parametrize("strategy", [{"name": "newton"}, PATH])
def test_the_first_hessian_of_a_poisson_regression_hangs_on_no_model(memory: Memory, strategy: dict[str, Any]) -> None:
    """It is weighted by the label. What a run of it shows was not shown by another round of the same."""
    rates = study("rates", **POISSON, strategy=strategy)
    later = plugins.strategy_of(rates).init(np.array([0.3, 0.1, 0.7]))
    for model in ((0.0, 0.0, 0.0), (0.3, 0.1, 0.7)):
        assert question.NOTHING in memory.asked(rates, "TRAIN", model)[1]["models"][0]
    later["taken"] = later["taken"] + 1
    out = io.BytesIO()
    chain.write(later, {}, out)
    assert not any(question.NOTHING in one for one in question.models(rates, "TRAIN", out.getvalue()))
    folds = {"fold-1/taken": np.ones(2), "fold-2/taken": np.array([1.0, 0.0])}
    assert question.constant(rates, folds) and not question.constant(rates, {"fold-1/taken": np.ones(2)})
    memory.opened(FOUR, rates)
    refused(memory, THREE, rates, model=(0.3, 0.1, 0.7))
    refused(memory, THREE, study("two"), kind="PREPARE")


@pytest.mark.parametrize("kind", ["logistic", "poisson", "linear"])
@pytest.mark.parametrize("strategy", ["fedavg", "newton"])
def test_a_model_of_an_intercept_alone_is_none(memory: Memory, kind: str, strategy: str) -> None:
    """All patients have one score: Hessians there are multiples of the one at zero."""
    about = {"logistic": {}, "poisson": POISSON, "linear": LINE}[kind]
    memory.opened(FOUR, study("one", **about, strategy={"name": strategy}))
    refused(memory, THREE, study("two", **about, strategy={"name": strategy}), model=(-1.2, 0.0, 0.0))
    refused(memory, THREE, study("two"), kind="PREPARE")


def test_what_all_showed_at_an_intercept_alone_is_what_hangs_on_it_at_another(memory: Memory) -> None:
    """A lasso stays there for rounds, and who repeats it meets other intercepts."""
    lasso = {"strategy": {"name": "newton", "options": {"l1": 0.5}}}
    shown(memory, study("pilot", **lasso))
    again = study("again", **lasso, privacy={"recipe": "secure_sum"}, quorum=3)
    assert said(memory, again, model=(-1.2, 0.0, 0.0), number=2) is True
    assert said(memory, again, model=(-1.2, 0.5, 0.0), number=3) is False
    assert said(memory, study("step"), model=(-1.2, 0.0, 0.0)) is None


def test_a_cox_regression_with_one_input_has_a_model_in_each_round(memory: Memory) -> None:
    """It has no intercept."""
    times = study("times", **{**TIMES, "strategy": {"name": "newton"}})
    memory.opened(FOUR, times)
    memory.opened(THREE, times, model=(0.5, 0.0, 0.0))
    refused(memory, FOUR, times, model=(0.5,))


def test_what_was_hidden_is_not_shown_alone_because_something_like_it_was(memory: Memory) -> None:
    """All showed an update at zero in a pilot; what prepares inputs, and another label's, were hidden in sums since."""
    mine = [SiteId("east")]
    memory.opened(mine)
    memory.opened(FOUR, study("two"), kind="PREPARE")
    refused(memory, mine, study("three"), kind="PREPARE")
    memory.opened(mine, study("three"))  # exactly that was shown
    memory.mapped(label={"column": "large_at_30_days"})
    refused(memory, mine, study("three"))


def test_who_showed_something_else_alone_does_not_count_with_those_who_showed_this(memory: Memory) -> None:
    """Three showed this in a pilot, and this hospital another label's: the sum less the three would be its own."""
    shown(memory, study("pilot"))
    assert said(memory, study("two")) is True
    assert said(memory, study("two"), model=(0.0,) * 4) is None
    assert said(memory, study("two"), "PREPARE", (1.0,)) is None
    memory.mapped(label={"column": "large_at_30_days"})
    assert said(memory, study("two")) is None
    assert said(memory, study("two"), model=(0.0, 1.0, 2.0)) is False


def shown(memory: Memory, of: Study, kind: str = "TRAIN", model: Any = (0.0, 0.0, 0.0), number: int = 1) -> None:
    """This hospital shows it alone, and the coordinator takes it."""
    task, asked = memory.asked(of, kind, model, number)
    with memory.journal.write() as tx:
        answer = tx.send("answer", b"", {"study": of.name, "run": task.run, "round": number}, datetime.now(UTC), None)
        told.keep(tx, task, asked, told.check(memory.journal, asked, [SiteId("east")]), answer)
        tx.do("UPDATE outbox SET status = 'sent'")


def said(memory: Memory, of: Study, kind: str = "TRAIN", model: Any = (0.0, 0.0, 0.0), number: int = 1) -> bool | None:
    """What this hospital says in READY; None: it refuses."""
    try:
        return told.alone(memory.journal, memory.asked(of, kind, model, number)[1])
    except Refused as error:
        assert error.reason == "difference"
        return None


OTHER: dict[str, Any] = {
    "inputs": {"contract": {
        "id": "sums", "features": [{"id": "x", "meaning": "x", **NUMBER}, {"id": "z", "meaning": "z", **NUMBER}],
        "label": {"id": "large", "meaning": "the sum is large", "type": "binary"},
    }},
    "limits": {"contract": {
        "id": "sums", "features": [{"id": one, "meaning": one, **NUMBER, "range": [-1, 1]} for one in "xy"],
        "label": {"id": "large", "meaning": "the sum is large", "type": "binary"},
    }},
    "a Hessian": {"strategy": {"name": "newton"}}, "steps": {"training": {"epochs": 3, "learning_rate": 0.5}},
    "a penalty": {"model": {"kind": "logistic", "l2": 0.1}}, "patients": {"evaluation": {"split_seed": 7}},
    "noise": {"privacy": {"recipe": "plain", "epsilon": 4.0, "noise": "at_each_hospital", "expected_patients": 50}},
}  # fmt: skip


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_who_showed_as_many_inputs_and_not_these_does_not_count_with_those_who_did(
    memory: Memory, changes: dict[str, Any]
) -> None:
    """Models are alike at zero: three showed these, a fourth others, and the sum of these less the three is its own."""
    shown(memory, study("pilot", **changes))
    assert said(memory, study("sealed", privacy={"recipe": "secure_sum"}, quorum=3)) is None


def test_who_repeats_a_pilot_counts_with_those_who_showed_it(memory: Memory) -> None:
    """By another name, for longer, with other people, under another recipe; but not by another mapping."""
    shown(memory, study("pilot"))
    shown(memory, study("pilot", prepare={"numbers": "standardise"}), "PREPARE", (1.0,))
    people = {"purpose": {"code": "quality", "text": "again", "requester": "others"}, "min_patients": 20}
    sealed = study("again", privacy={"recipe": "secure_sum", "clip": 2}, rounds=9, quorum=3, gate={}, **people)
    assert said(memory, sealed) is True
    assert said(memory, study("again", prepare={"numbers": "standardise"}), "PREPARE", (2.0,)) is True
    assert said(memory, study("again", prepare={"missing": "impute"}), "PREPARE", (2.0,)) is None
    assert said(memory, sealed, number=2) is None, "its patients are in other batches"
    memory.mapped(features={"x": {"column": "glucose"}})
    assert said(memory, sealed) is None


@pytest.mark.parametrize("about", [{**LINE, "strategy": {"name": "newton"}}, TIMES], ids=["least squares", "webdisco"])
def test_who_repeats_a_pilot_of_what_hangs_on_no_model_counts_in_all_rounds(
    memory: Memory, about: dict[str, Any]
) -> None:
    """Models differ in their last bits, and there may be more of them; who showed another study's alone does not."""
    for number, model in enumerate(((0.0, 0.0, 0.0), (0.3, 0.7, 0.1)), 1):
        shown(memory, study("pilot", **about), model=model, number=number)
    sealed = {**about, "privacy": {"recipe": "secure_sum"}, "quorum": 3, "rounds": 9}
    models = ((0.0, 0.0, 0.0), (0.3, 0.7, 0.1), (0.3, np.nextafter(0.7, 1), 0.1), (1.0, 2.0, 3.0))
    for number, model in enumerate(models):
        assert said(memory, study("again", **sealed), model=model, number=number + 1) is True
    assert said(memory, study("other", **sealed, evaluation={"split_seed": 2}), model=(5.0, 6.0, 7.0)) is None


def test_who_showed_something_at_this_model_counts_with_no_least_squares_that_were_not(memory: Memory) -> None:
    """Of three who showed a step there the gradient is known, and the fourth's with it."""
    shown(memory, study("pilot", **LINE), model=(0.3, 0.7, 0.1))
    exact = study("exact", **LINE, strategy={"name": "newton"})
    assert said(memory, exact, model=(0.3, 0.7, 0.1)) is None and said(memory, exact, model=(0.3, 0.7, 0.2)) is False


def test_what_was_shown_in_a_release_that_did_not_say_exactly_what_counts_as_something_else(memory: Memory) -> None:
    shown(memory, study("pilot"))
    with memory.journal.write() as tx:
        tx.do("DELETE FROM opened_as")
    assert said(memory, study("again")) is None


@pytest.mark.parametrize("strategy", ["fedavg", "newton"])
def test_who_showed_anything_at_zero_alone_has_shown_something_of_what_prepares_inputs(
    memory: Memory, strategy: str
) -> None:
    """A Hessian gives the squares of its inputs, and an update of least squares their products with the label."""
    shown(memory, study("pilot", **LINE, strategy={"name": strategy}))
    assert said(memory, study("two"), "PREPARE", (1.0,)) is None


def test_what_an_earlier_release_remembers_still_counts(memory: Memory) -> None:
    """It knew neither populations nor what stands for a model now."""
    with memory.journal.write() as tx:
        raw = digest(np.array([0.5, 1.5]).tobytes())
        tx.do(
            "INSERT INTO openings (run, round, model, source, objective, sites, study) VALUES (?, ?, ?, ?, ?, ?, ?)",
            "old-1", 1, raw, "another table's digest", "a label", json.dumps(sorted(FOUR)), "old",
        )  # fmt: skip
        for table in ("opened_of", "opened_as", "shown"):
            tx.do(f"DROP TABLE {table}")
    memory.journal = Journal(memory.folder / "journal.sqlite")
    refused(memory, THREE, model=(0.5, 1.5))
    memory.policy = Policy.model_validate({"policy": 1, "privacy": {"populations": {"heart": {}}}})
    memory.mapped(source={"type": "csv", "path": "heart.csv"}, patients="heart")
    refused(memory, THREE, model=(0.5, 1.5))  # nobody knows whose it was
    memory.mapped()
    memory.opened(FOUR, model=(0.5, 1.5))
    memory.opened(THREE, model=(0.5, 2.5))


@pytest.mark.parametrize("lost", [("TRIGGER opened_from_grows", "TABLE opened_from"), ("TRIGGER opened_from_grows",)])
def test_from_which_tables_a_release_told_that_kept_no_list_of_them_still_counts(
    memory: Memory, lost: tuple[str, ...]
) -> None:
    """Patients of a population of their own, some of whom came from the table that all others come from. And if it was
    ended while it made the list, or that of before told more since.
    """
    memory.policy = Policy.model_validate({"policy": 1, "privacy": {"populations": {"heart": {}}}})
    memory.opened(FOUR)
    with memory.journal.write() as tx:
        for what in lost:
            tx.do(f"DROP {what}")
    with memory.journal.write() as tx:  # as that release does
        tx.do(
            "INSERT INTO openings SELECT 99, source, 'another', objective, sites, study, run, 9 FROM openings LIMIT 1"
        )
        tx.do("INSERT INTO opened_of VALUES (99, 'heart', 'heart')")
    memory.journal.close()
    with ThreadPoolExecutor(8) as pool:  # the agent, and people's commands
        opened = list(pool.map(lambda _: Journal(memory.folder / "journal.sqlite"), range(8)))
    memory.journal = opened[0]
    assert len(memory.journal.rows("SELECT * FROM opened_from")) == 2
    memory.mapped(patients="heart", source={"type": "csv", "path": "hearts.csv"})
    refused(memory, THREE)


def test_models_of_folds_and_of_groups_of_hospitals_are_each_one_at_which_something_is_told() -> None:
    """Another study could begin at any of them, over almost the same hospitals."""
    others = {
        "fold-1/model": (1.0, 2.0),
        "fold-2/model": (1.0, 3.0),
        "model-2": (3.0, 4.0),
        "models": (5.0, 6.0, 7.0, 8.0),
    }
    arrays = {"model": np.array([0.5, 1.5]), **{name: np.array(values) for name, values in others.items()}}
    found = {one for group in question.models(study("one"), "TRAIN", to_safetensors(arrays)) for one in group}
    for model in ((0.5, 1.5), (1.0, 2.0), (1.0, 3.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0)):
        (alone,) = question.models(study("two"), "TRAIN", to_safetensors({"model": np.array(model)}))
        assert found.issuperset(alone), model
    assert len(found) == 6


def test_a_sum_is_remembered_with_who_lacked_what_and_what_nobody_added_to(memory: Memory) -> None:
    task, asked = memory.asked(study("one"), "TRAIN", (0.0, 0.0, 0.0))
    lacking = frozenset({("x", SiteId("west")), ("y", SiteId("east"))})
    now = Summed(FOUR, frozenset({"x", "y", "held-out"}), lacking, frozenset({"y"}))
    with memory.journal.write() as tx:
        told.keep(tx, task, asked, told.check(memory.journal, asked, FOUR), summed=now)
    assert told.sums(memory.journal, "one", asked) == [now] and told.sums(memory.journal, "two", asked) == []


def test_a_large_model_is_known_by_its_bytes_alone() -> None:
    large = np.ones(question.MOST + 1, dtype=np.float32)
    assert len(question._of(large)) == 1 and len(question._of(large[:9])) == 2
    assert question._of(np.zeros(3))[1] == question._of(-np.zeros(5, dtype=np.float32))[1] == question.NOTHING
