"""What a study with an epsilon may ask for: noise bounds what is said of a patient only if all that leaves has it."""

from typing import TYPE_CHECKING

from consilium.core.threshold import threshold

if TYPE_CHECKING:
    from consilium.core.study import Study

FEDSGD = ("fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi")
"""Strategies whose round is one step on summed gradients where each hospital makes one: noise can be added to them."""
WHOLE = (*FEDSGD, "fedprox")
"""Strategies that add up changes of the model and nothing beside them."""
CLIPPED = ("linear", "logistic", "poisson", "torch")
"""Models whose gradient is known patient by patient."""


def unfit(study: "Study") -> str | None:
    """Why the noise that a study asks for would not bound what it says of one patient; None: it does, or asks for none.

    The words begin with the key that is to be corrected.
    """
    asked, training = study.privacy, study.training
    if asked.epsilon is None:
        given = [name for name in ("noise_multiplier", "all_honest") if getattr(asked, name) is not None]
        given += ["noise"] if asked.noise != "shared" else []
        given += ["unit"] if asked.unit != "patient" else []
        return f"`privacy.{given[0]}` needs `privacy.epsilon` beside it" if given else None
    if asked.whole:
        return _unfit_whole(study)
    if asked.clip_quantile is not None:
        return "`privacy.clip_quantile` is for `unit: hospital`: gradients of patients are cut at one norm"
    if study.model.kind not in CLIPPED:
        return f"`model.kind` {study.model.kind} is not possible under `epsilon`; choose one of {', '.join(CLIPPED)}"
    if study.model.wheel is not None:
        return (
            "`model.wheel` is not possible under `epsilon`: nobody knows what foreign code adds up; use the catalogue"
        )
    if training.batch_size != 0:
        return (
            f"`training.batch_size` {training.batch_size} is not possible under `epsilon`: write 0, and draw patients "
            "with `privacy.sampling`"
        )
    if asked.expected_patients is None:
        return "`privacy.epsilon` needs `expected_patients` beside it: a public estimate by which sums are divided"
    if asked.local:
        return _unfit_alone(study, asked.expected_patients)
    return _unfit_together(study) or _unfit_numbers(study, asked.expected_patients)


def _unfit_whole(study: "Study") -> str | None:
    """For hospitals as a whole: what each changes is shortened and gets a share of noise, however it was trained."""
    asked, strategy = study.privacy, study.strategy.name
    if asked.recipe != "secure_sum":
        return "`privacy.recipe` must be secure_sum under `unit: hospital`: shares of noise only add up in a secure sum"
    if asked.noise != "shared":
        return f"`privacy.noise` {asked.noise} is not possible under `unit: hospital`: nothing of one would be left"
    if strategy not in WHOLE:
        return f"`strategy.name` {strategy} is not possible under `unit: hospital`; use {', '.join(WHOLE)}"
    if study.model.wheel is not None:
        return "`model.wheel` is not possible under `epsilon`: foreign code would shorten its own changes"
    if asked.sampling != 1:
        return "`privacy.sampling` is not possible under `unit: hospital`: hospitals are not drawn, write 1"
    return _unfit_numbers(study, 1)


def _unfit_together(study: "Study") -> str | None:
    """For noise in shares, which add up in a sum of single steps, and in nothing else."""
    strategy, epochs = study.strategy.name, study.training.epochs
    if study.privacy.recipe != "secure_sum":
        why = "`privacy.recipe` must be secure_sum under `epsilon`: shares of noise only add up in a secure sum"
    elif strategy not in FEDSGD:
        why = f"`strategy.name` {strategy} is not possible under `epsilon` with shared noise; use {', '.join(FEDSGD)}"
    elif epochs != 1:
        why = f"`training.epochs` {epochs} is not possible with shared noise: each round is one step; write 1"
    else:
        return None
    return f"{why}; or let each hospital add all the noise, with `noise: at_each_hospital`"


def _unfit_alone(study: "Study", expected: int) -> str | None:
    """For whole noise at each hospital, whatever becomes of what leaves."""
    asked = study.privacy
    if asked.delta * expected >= 1:
        return f"`privacy.delta` {asked.delta:g} must be below 1/{expected}: one over a hospital's expected patients"
    if expected > asked.most_patients:
        return f"`privacy.expected_patients` {expected} is more than the {asked.most_patients} of `most_patients`"
    return None


def _unfit_numbers(study: "Study", expected: int) -> str | None:
    asked, all_ = study.privacy, expected * max(len(study.sites), study.quorum)
    if asked.delta * all_ >= 1:
        whom = "hospitals" if asked.whole else "hospitals' expected patients"
        return f"`privacy.delta` {asked.delta:g} must be below 1/{all_}: one over all {whom}"
    opening = max(asked.min_sites, threshold(study.quorum))
    if asked.colluding > opening - 2:
        return (
            f"`privacy.colluding` {asked.colluding} leaves fewer than two honest hospitals of the {opening} in the "
            f"smallest sum; write at most {opening - 2}, or raise `quorum`"
        )
    return None
