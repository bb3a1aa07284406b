"""What is learned of the patients of all hospitals before training, and whether a study can ask for it."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from consilium.core.parts import Identifier, Part

if TYPE_CHECKING:
    from consilium.core.study import Study


class Harmonise(Part):
    """Numbers that hospitals measure differently, made comparable by ComBat."""

    numbers: tuple[Identifier, ...] = Field(
        min_length=1, description="which ones; each hospital's shift and scale of them are taken out"
    )
    keep: tuple[Identifier, ...] = Field(
        (),
        description="features, such as age and sex, that hospitals may differ in: what goes with them stays",
    )
    empirical_bayes: bool = Field(
        True,
        description="whether a hospital's shifts and scales are shrunk over the numbers towards what these have in "
        "common; it takes two numbers or more",
    )


class Prepare(Part):
    """What is learned of the training patients of all hospitals, before any training, in one round of sums."""

    numbers: Literal["by_range", "standardise"] = Field(
        "by_range",
        description="by_range: numbers are scaled by the contract's ranges, and nothing is learned; standardise: by "
        "their mean and standard deviation",
    )
    missing: Literal["flag", "impute"] = Field(
        "flag",
        description="flag: 0 after scaling, with a column of its own that says so; impute: the mean of a number, the "
        "most frequent category, without a column",
    )
    bins: dict[Identifier, Annotated[int, Field(ge=2, le=20)]] = Field(
        default_factory=dict, description="number: into how many bins of equally many patients it is cut, by quantiles"
    )
    rare_below: int = Field(
        0,
        ge=0,
        description="categories that fewer patients have, all hospitals together, count as the reference: "
        "the category whose code sorts first",
    )
    harmonise: Harmonise | None = Field(
        None, description="numbers that scanners or laboratories shift and scale; none given: they stay as they are"
    )
    hide_below: int = Field(
        5,
        ge=1,
        description="no hospital tells a count of fewer patients: it adds them to its largest count, or leaves them "
        "out; 1 hides nothing, and each hospital's policy must allow it",
    )

    @property
    def learns(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.steps)

    @property
    def steps(self) -> list[str]:
        """What is done with inputs, in words."""
        told = []
        if self.numbers == "standardise":
            told.append("numbers are scaled by the mean and standard deviation of all training patients")
        if self.missing == "impute":
            told.append("a missing value is filled in by the mean, or the most frequent category, of all")
        if self.bins:
            cut = ", ".join(f"{name} ({bins})" for name, bins in sorted(self.bins.items()))
            told.append(f"these numbers are cut into so many bins by quantiles of all: {cut}")
        if self.harmonise is not None:
            kept = f", but for what goes with {', '.join(self.harmonise.keep)}" if self.harmonise.keep else ""
            told.append(
                f"this hospital's shift and scale of these numbers are taken out (ComBat){kept}; they are computed "
                f"here and stay here: {', '.join(self.harmonise.numbers)}"
            )
        if self.rare_below:
            told.append(
                f"categories of fewer than {self.rare_below} patients are joined with the one whose code sorts first"
            )
        return told


def unfit(study: "Study") -> str | None:
    """Why inputs cannot be prepared as a study asks; None: they can, or nothing is asked. Begins with the key."""
    asked = study.prepare
    if asked is None:
        return None
    if not asked.learns:
        return "`prepare` asks for nothing; write `numbers: standardise`, `missing: impute`, or leave it out"
    if study.privacy.epsilon is not None:
        return "`prepare` is not possible under `privacy.epsilon`: its sums have no noise; leave it out"
    numbers = {feature.id for feature in study.contract.features if feature.type == "number"}
    if others := sorted(asked.bins.keys() - numbers):
        return f"`prepare.bins` names {', '.join(others)}, which is no number of the contract"
    return None if asked.harmonise is None else _unharmonious(study, asked, asked.harmonise, numbers)


def _unharmonious(study: "Study", prepare: Prepare, asked: Harmonise, numbers: set[str]) -> str | None:
    missing = {feature.id: feature.missing for feature in study.contract.features}
    if others := sorted(set(asked.numbers) - numbers):
        return f"`prepare.harmonise.numbers` names {', '.join(others)}, which is no number of the contract"
    if others := sorted(set(asked.keep) - missing.keys()):
        return f"`prepare.harmonise.keep` names {', '.join(others)}, which is no feature of the contract"
    if len({*asked.numbers, *asked.keep}) < len(asked.numbers) + len(asked.keep):
        return "`prepare.harmonise` names a feature twice"
    if others := [name for name in (*asked.numbers, *asked.keep) if missing[name] != "forbidden"]:
        return f"`prepare.harmonise` needs features that nobody lacks: write `missing: forbidden` at {others[0]}"
    if others := [name for name in asked.numbers if name in prepare.bins]:
        return f"`prepare.harmonise` and `prepare.bins` both name {', '.join(others)}; choose one"
    if asked.empirical_bayes and len(asked.numbers) < 2:
        return "`prepare.harmonise` shrinks over numbers, and there is one: write `empirical_bayes: false`"
    return None
