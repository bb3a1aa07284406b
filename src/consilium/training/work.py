"""Training and evaluation of one site's examples: from a state file to an update's segments. Runs in the child."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium import plugins
from consilium.algorithms import absence, combat, encode, evaluation, groups, preparation
from consilium.algorithms.base import (
    Curvature,
    Here,
    Local,
    LocalObjective,
    Strategy,
    Validation,
    parts_of,
    run,
    used,
)
from consilium.algorithms.between import USUAL, Spans
from consilium.algorithms.crossed import Crossed, without
from consilium.algorithms.groups import Members
from consilium.core import state as chain
from consilium.core.errors import DataUnusable, DigestMismatch, Invalid, StudyInvalid, TrainingFailed
from consilium.core.ids import digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array, Tensors, Vector, flatten, from_safetensors, unflatten
from consilium.core.timed import tells_times
from consilium.core.update import Update
from consilium.training import private, sandbox, silence, wheels
from consilium.training.base import Curved, Floats, Survival, Trainer
from consilium.training.initial import check
from consilium.training.linear import steps
from consilium.training.rehearsal import rehearse
from consilium.training.spans import spans

Folds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Encoded patients: x (n, p), label y (n,), which of them are held out for testing (n,), and their groups.

    Args:    groups: (n, groups), who belongs to which of those that are judged apart; None: there are none.
             validation: (n,), who of the others chooses among models; None: nobody.   fold: (n,) the part of each,
             where a study has folds: then nobody is held out from the common model.
    """

    x: Floats
    y: Floats
    test: Members
    groups: Members | None = None
    validation: Members | None = None
    fold: Folds | None = None

    @property
    def training(self) -> tuple[Floats, Floats]:
        """Inputs and labels of those who are not held out."""
        patients = ~self.test
        return self.x[patients], self.y[patients]


@dataclass(frozen=True)
class Rows:
    """Patients as the contract means them, of whom inputs are made once it is learned how: per feature (n,)."""

    columns: Mapping[str, Floats]
    y: Floats
    test: Members
    validation: Members | None = None
    fold: Folds | None = None

    def encoded(self, study: Study, learned: Mapping[str, Array] | None = None) -> Examples:
        """Encoded patients, by what the study asks for and what was learned of it."""
        apart, columns = groups.members(study, self.columns, len(self.y)), self.columns
        if (harmony := self.harmony(study, learned or {})) is not None:
            columns = combat.harmonised(study, columns, learned or {}, harmony)
        x = encode.encode(study.contract, columns, study.prepare, learned)
        return Examples(x, self.y, self.test, apart, self.validation, self.fold)

    def sums(self, study: Study) -> Floats:
        """What a round of preparation adds up, over training patients."""
        return preparation.statistics(study, self._training)

    def lacks(self, study: Study, kind: str) -> tuple[str, ...]:
        """Of what these patients add nothing to a sum of a round of `kind`: see `absence.of`."""
        if kind == "PREPARE":
            return absence.of(study, {preparation.SUMS: self.sums(study)})
        return absence.of_held_out(study, self.y[self.test] if self.fold is None else self.y)

    def harmony(self, study: Study, learned: Mapping[str, Array]) -> combat.Harmony | None:
        """This hospital's shifts and scales, by its training patients; None where nothing is harmonised."""
        return None if combat.asked_of(study) is None else combat.at_site(study, self._training, learned)

    @property
    def _training(self) -> dict[str, Floats]:
        training = ~self.test
        return {name: values[training] for name, values in self.columns.items()}


def examined(study: Study, rows: Rows) -> tuple[Examples, Rows | None]:
    """What of patients a `Work` has: their inputs; or, where the study prepares these, themselves and what is known."""
    if study.prepare is None:
        return rows.encoded(study), None
    return Examples(np.zeros((len(rows.y), 0)), rows.y, rows.test), rows


@dataclass(frozen=True)
class Foreign:
    """Code of the study's own in a wheel, or none and a graph; and the folders to which this process is confined."""

    wheel: Path | None
    read: tuple[Path, ...]
    write: tuple[Path, ...]


@dataclass(frozen=True)
class Work:
    """One plan at one site.

    Args:    rows: its patients, where the study prepares inputs: those of `examples` have no columns then, and `at`
             makes them of what a state holds of preparation.
    """

    plan: Plan
    trainer: Trainer
    strategy: Strategy
    like: Tensors
    examples: Examples
    rows: Rows | None = None
    _made: dict[bytes, Examples] = field(default_factory=dict, init=False, repr=False, compare=False)

    def at(self, state: Mapping[str, Array]) -> Examples:
        """Encoded patients, by what the arrays of a state hold of preparation. Raises: Invalid: it is not there yet."""
        if self.rows is None:
            return self.examples
        carried = chain.carried(state)
        name = b"".join(carried[key].tobytes() for key in sorted(carried))
        if name not in self._made:
            self._made.clear()
            self._made[name] = self.rows.encoded(self.plan.study, carried)
        return self._made[name]

    @classmethod
    def load(cls, plan: Path, initial: Path, table: Path, foreign: Foreign | None = None) -> "Work":
        """Read the plan, the initial model (its digest must be the plan's) and the table that the site prepared.

        With `foreign`, this process is confined for good, once all else is read.

        Raises: DigestMismatch: the initial model or the wheel is not the plan's.   DataUnusable: no training patients.
                Refused: this host cannot confine foreign code (`cannot-confine`); the initial model does not follow
                from the plan's seed, from which it says that it starts (`initial-model`).
        """
        known = Plan.load(plan.read_bytes())
        study = known.study
        model = initial.read_bytes()
        if digest(model) != study.model.initial:
            raise DigestMismatch("the initial model is not the one the plan names", "fetch it again")
        with np.load(table, allow_pickle=False) as found:
            columns = {feature.id: found[f"feature/{feature.id}"] for feature in study.contract.inputs}
            validation = found["validation"] if study.validates else None
            fold = found["fold"] if study.evaluation.folds else None
            examples, rows = examined(study, Rows(columns, found["label"], found["test"], validation, fold))
        if not study.judged_only and not np.any(~examples.test):
            raise DataUnusable("no patient is left for training", "check the mapping with `consilium site check`")
        if examples.fold is not None and len(np.unique(examples.fold)) < 2:
            raise DataUnusable("all patients are in one fold", "leave `evaluation.folds` out of the study")
        strategy = plugins.strategy_of(study)
        trainer, like = _trainer(study, foreign), from_safetensors(model)
        check(study, trainer, like)
        return cls(known, trainer, strategy, like, examples, rows)

    def prepare(self) -> Update:
        """What a round of preparation adds up, and the number of training patients."""
        if self.rows is None:
            raise Invalid("the study prepares nothing", "take the next task")
        return Update({preparation.SUMS: self.rows.sums(self.plan.study), "weight": self._patients})

    def lacks(self, kind: str) -> tuple[str, ...]:
        """Of what this site adds nothing to a sum of a round of `kind`: see `absence.of`."""
        of = self.examples
        rows = self.rows or Rows({}, of.y, of.test, of.validation, of.fold)
        return rows.lacks(self.plan.study, kind)

    def train(
        self,
        state: chain.Source,
        number: int,
        sample: bytes = b"",
        memory: Mapping[str, Array] | None = None,
        late: Mapping[str, Array] | None = None,
    ) -> Update:
        """Train at the state's model; metrics of the model that is used here on held-out patients travel along.

        Under an epsilon training is on clipped gradients of patients who are drawn by the key `sample`, and nothing
        travels along. It is one step, to which noise is added later, or several with all their noise. Where the unit is
        a hospital, training is as ever, and the strategy clips what comes of it. `memory`, `late`: see `Here`.

        Raises: Refused: it would add nothing to a secure sum (`nothing`); and what training raises.
        """
        study, arrays = self.plan.study, self.arrays(state)
        examples = self.at(arrays)
        x, y = examples.training
        here = replace(self._here(arrays, memory, x, y), number=number, late=late or {})
        silence.compared(study, self.trainer, x, y)
        if examples.fold is not None:
            return Update({**self._crossed(here, examples, examples.fold), **self._metrics("TRAIN", here, examples)})
        if study.privacy.shared and not study.privacy.whole:
            return Update(private.step(study, self.trainer, unflatten(here.model, self.like), x, y, sample))
        if study.privacy.local:
            return Update(*private.several(study, self.trainer, self.strategy, here, self.like, x, y, sample))
        if self.chooses is not None:
            silence.compared(study, self.trainer, x[~self.chooses], y[~self.chooses])
        segments, kept = self._segments(self.strategy, here, x, y, number, self._divided(examples))
        silence.heard(study, segments)
        if study.privacy.weight is not None:
            return Update(segments, kept)  # figures would leave without noise
        return Update({**segments, **self._metrics("TRAIN", here, examples)}, kept)

    def _crossed(self, here: Here, examples: Examples, fold: Folds) -> Tensors:
        """What is summed of each model of a cross-validation, by its own training patients. Nothing is kept of it."""
        strategy, parts = self._strategy_of_folds, list[Tensors]()
        for at in range(strategy.folds + 1):
            rows = without(fold, at)
            x, y = examples.x[rows], examples.y[rows]
            silence.compared(self.plan.study, self.trainer, x, y)
            mine = self._known(replace(here, state=strategy.part(here.state, at)), x, y)
            parts.append(self._segments(strategy.inner, mine, x, y, here.number)[0])
            silence.heard(self.plan.study, parts[-1])
        return strategy.joined(parts)

    @property
    def _strategy_of_folds(self) -> Crossed:
        assert isinstance(self.strategy, Crossed)
        return self.strategy

    def _segments(
        self, strategy: Strategy, here: Here, x: Floats, y: Floats, number: int, validation: Validation | None = None
    ) -> tuple[Tensors, Tensors]:
        """What a strategy makes of training with these patients: what is summed, and what is kept here."""
        study, trainer, passes, curved = self.plan.study, self.trainer, strategy.passes(here), self._curved

        def train(start: Vector, objective: LocalObjective) -> Vector:
            try:
                return flatten(trainer.train(study, unflatten(start, self.like), x, y, objective, number))
            except TrainingFailed:
                # That somebody's patients lead it astray would be said without noise, if the hospital were to refuse.
                if not study.privacy.whole or not np.all(np.isfinite(start)):
                    raise
                return start

        def curvature(of: Vector, first: bool) -> Curvature:
            assert curved is not None
            return curved.curvature(study, unflatten(of, self.like), x, y, first)

        weight = study.privacy.weight
        patients = float(len(y)) if weight is None else weight
        local = Local(
            run(passes, train), patients, steps(study, len(y)), study.training.learning_rate,
            curvature if curved else None, strategy.sums(study, here.model.size),
            None if self._survival is None else self._survival.timed(study, x, y), validation,
        )  # fmt: skip
        return strategy.contribution(here, local)

    def evaluate(self, state: chain.Source, memory: Mapping[str, Array] | None = None) -> Update:
        """Metrics on held-out patients of the model that is used here."""
        arrays = self.arrays(state)
        examples = self.at(arrays)
        here = self._here(arrays, memory, *examples.training)
        noised = self.plan.study.privacy.epsilon is not None
        weight = private.weight(self.plan.study) if noised else self._patients
        return Update({"weight": weight, **self._metrics("EVALUATE", here, examples, self._spans(arrays))})

    def own(self, state: chain.Source, memory: Mapping[str, Array]) -> Tensors | None:
        """The model that is used here, by name, where it is another than the common one."""
        arrays = self.arrays(state)
        here = self._here(arrays, memory, *self.at(arrays).training)
        own = used(self.strategy.passes(here))
        return None if np.array_equal(own, here.model) else unflatten(own, self.like)

    def harmony(self, state: chain.Source) -> combat.Harmony | None:
        """This hospital's shifts and scales; None where nothing is harmonised."""
        return None if self.rows is None else self.rows.harmony(self.plan.study, self.arrays(state))

    @property
    def chooses(self) -> Members | None:
        """(n,) which of the training patients choose among models; None where the study does not ask for it."""
        validation = (self.rows or self.examples).validation
        return None if validation is None else validation[~self.examples.test]

    @property
    def _patients(self) -> Array:
        judged_only, test = self.plan.study.judged_only, self.examples.test
        return np.array([float(np.sum(test if judged_only else ~test))])

    def arrays(self, source: chain.Source) -> Mapping[str, Array]:
        """Arrays of a file; read, where foreign code runs here, and not mapped: a map holds its file open."""
        if isinstance(source, Path) and self.plan.study.model.foreign:
            source = source.read_bytes()
        return chain.read(source).arrays

    @cached_property  # of each site once: to ask an object whether it follows a protocol takes Python a while
    def _curved(self) -> Curved | None:
        return self.trainer if isinstance(self.trainer, Curved) else None

    @cached_property
    def _survival(self) -> Survival | None:
        return self.trainer if isinstance(self.trainer, Survival) else None

    def _here(self, state: Mapping[str, Array], memory: Mapping[str, Array] | None, x: Floats, y: Floats) -> Here:
        arrays = chain.own(state)
        models = {name: np.array(array) for name, array in arrays.items() if name.rpartition("/")[2] == "model"}
        return self._known(Here({**arrays, **models}, memory or {}, parts_of(self.like)), x, y)

    def _known(self, here: Here, x: Floats, y: Floats) -> Here:
        """The same, where the loss of a model is that over these patients."""
        known: dict[str, float] = {}

        def loss(of: Vector) -> float:
            name = digest(of.tobytes())
            if name not in known:  # a strategy asks for the same model several times in a round
                known[name] = self.trainer.loss(self.plan.study, unflatten(of, self.like), x, y)
            return known[name]

        return replace(here, loss=loss)

    def _divided(self, examples: Examples) -> Validation | None:
        if self.chooses is None or self._curved is None:
            return None
        return divided(self.plan.study, self._curved, self.like, *examples.training, self.chooses)

    def _spans(self, state: Mapping[str, Array]) -> Spans:
        """Of hazards by the common model, the same at all hospitals."""
        study = self.plan.study
        if not tells_times(study) or study.model.foreign:  # whose code may say another thing each time
            return USUAL
        model = unflatten(np.array(state["model"]), self.like)
        return spans(study, self.trainer, model, chain.carried(state))

    def _metrics(self, kind: str, here: Here, examples: Examples, of_hazards: Spans = USUAL) -> Tensors:
        """Sums over those who are held out; or over all, each judged by the model of its fold."""
        study, test, apart = self.plan.study, examples.test, examples.groups
        if examples.fold is None:
            score = self._scores(self.strategy, here, examples.x[test])
        else:
            strategy, score = self._strategy_of_folds, np.zeros(len(examples.y))
            test = np.ones(len(score), dtype=bool)
            for at in range(1, strategy.folds + 1):
                mine = examples.fold == at - 1
                judge = replace(here, state=strategy.part(here.state, at))
                score[mine] = self._scores(strategy.inner, judge, examples.x[mine])
        members = np.zeros((len(score), 0), dtype=bool) if apart is None else apart[test]
        common = self._predicted(here.model, examples.x[test]) if evaluation.both(study, kind) else None
        found = evaluation.sums(study, kind, score, examples.y[test], members, common, of_hazards)
        return {f"metrics/{name}": array for name, array in found.items()}

    def _scores(self, strategy: Strategy, here: Here, x: Floats) -> Floats:
        """What the model that is used here predicts."""
        return self._predicted(used(strategy.passes(here)), x)

    def _predicted(self, model: Vector, x: Floats) -> Floats:
        return self.trainer.predict(self.plan.study, unflatten(model, self.like), x).astype(np.float64)


def divided(study: Study, trainer: Curved, like: Tensors, x: Floats, y: Floats, chooses: Members) -> Validation:
    """Training patients in two parts, by who of them chooses."""

    def curvature(of: Vector, first: bool) -> Curvature:
        return trainer.curvature(study, unflatten(of, like), x[~chooses], y[~chooses], first)

    free = study.model_copy(update={"model": study.model.model_copy(update={"l2": 0.0})})

    def loss(of: Vector) -> float:
        judged = bool(np.any(chooses))
        return trainer.curvature(free, unflatten(of, like), x[chooses], y[chooses], False).loss if judged else 0.0

    return Validation(curvature, float(np.sum(~chooses)), loss)


def first(plan: Path, foreign: Foreign | None) -> Tensors:
    """The model that follows from the seed of a plan, by code of its own, which is tried on made-up patients as well.

    Raises: as `Work.load`, and StudyInvalid: the code does not what a study needs.
    """
    study = Plan.load(plan.read_bytes()).study
    trainer = _trainer(study, foreign)
    made = trainer.initial(study, encode.names(study.contract, study.prepare))
    rehearse(study, trainer, made)
    return made


def _trainer(study: Study, foreign: Foreign | None) -> Trainer:
    kind = plugins.load("consilium.trainers", study.model.kind)
    if foreign is None and not study.model.foreign:
        plain: Trainer = kind()
        return plain
    if foreign is None or (foreign.wheel is None) != (study.model.wheel is None) or not study.model.foreign:
        raise StudyInvalid("the plan names a wheel and none is here, or the reverse", "fetch the study again")
    if foreign.wheel is None or study.model.wheel is None:
        sandbox.confine(foreign.read, foreign.write)
        graph: Trainer = kind()
        return graph
    folder = foreign.wheel.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    code = wheels.unpack(foreign.wheel, study.model.wheel, folder)
    sandbox.confine([*foreign.read, code], foreign.write)
    own: Trainer = kind(wheels.architecture(code, str(study.model.architecture)))
    return own
