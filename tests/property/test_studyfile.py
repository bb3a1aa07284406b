"""Every study survives a round trip through its YAML file: the plan's digest is the same."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium import studyfile
from consilium.core.errors import StudyInvalid
from consilium.core.judging import Evaluation
from consilium.core.study import Plan, Study
from consilium.core.threshold import threshold

slugs = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
ids = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)
# YAML's own limits: no control characters; the stripped text must not be empty
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn")), min_size=1, max_size=60
).filter(lambda text: text.strip() != "")
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def features(draw: st.DrawFn, name: str) -> dict[str, Any]:
    missing = draw(st.sampled_from(["allowed", "forbidden"]))
    base = {"id": name, "meaning": draw(texts), "missing": missing}
    if draw(st.booleans()):
        low = draw(numbers)
        return {**base, "type": "number", "unit": "mg/dL", "range": [low, low + draw(st.floats(1, 1e6))]}
    codes = draw(st.lists(ids, min_size=2, max_size=4, unique=True))
    return {**base, "type": "category", "categories": {code: draw(texts) for code in codes}}


@st.composite
def studies(draw: st.DrawFn) -> Study:
    names = draw(st.lists(ids, min_size=2, max_size=6, unique=True))
    kind, label = draw(st.sampled_from([("logistic", "binary"), ("poisson", "count"), ("torch", "binary")]))
    model: dict[str, Any] = {"kind": kind, "l2": draw(st.floats(0, 1))}
    if kind == "torch":
        model |= {"architecture": "mlp", "options": {"hidden": [draw(st.integers(1, 64))]}}
    recipe = draw(st.sampled_from(["plain", "secure_sum"]))
    secure = recipe == "secure_sum"
    invited = draw(
        st.lists(slugs, min_size=4, max_size=9, unique=True) if secure else st.lists(slugs, max_size=4, unique=True)
    )
    invited = draw(st.sampled_from([invited, []]))
    least = max(3, threshold(len(invited))) if secure else 1
    return Study.model_validate(
        {
            "consilium": 1,
            "name": draw(slugs),
            "title": draw(texts),
            "purpose": {
                "code": draw(st.sampled_from(["research", "quality", "public-health", "education"])),
                "text": draw(texts),
                "requester": draw(texts),
                "expires": draw(st.none() | st.dates().map(str)),
            },
            "contract": {
                "id": draw(slugs),
                "features": [draw(features(name)) for name in names[1:]],
                "label": {"id": names[0], "meaning": draw(texts), "type": label},
            },
            "model": model,
            "strategy": {"name": "fedprox", "options": {"mu": draw(st.floats(0, 10))}},
            "training": {"learning_rate": draw(st.floats(1e-6, 10)), "seed": draw(st.integers(0, 2**31 - 1))},
            "rounds": draw(st.integers(1, 1000)),
            "privacy": {
                "recipe": recipe,
                "clip": draw(st.floats(1e-3, 1e6)),
                "bits": draw(st.sampled_from([None, 16, 32, 64])),
            },
            "quorum": draw(st.integers(least, len(invited) or 9)),
            "sites": invited,
        }
    )


@settings(max_examples=25, deadline=None)
@given(studies())
def test_every_study_survives_its_file_with_the_same_plan(study: Study) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(yaml.safe_dump(study.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
        assert Plan.of(studyfile.read(path)).digest == Plan.of(study).digest


@pytest.mark.parametrize(("share", "near"), [(0.302, "0.3"), (0.001, "0.05"), (0.9999, "1")])
def test_two_studies_hold_out_the_same_share_or_shares_that_differ_by_many(
    tmp_path: Path, share: float, near: str
) -> None:
    """Of sums over 30 and over 30.2 percent the difference would be of a few patients."""
    path = tmp_path / "study.yaml"
    path.write_text(studyfile.TEMPLATE.replace("NAME", "one").replace("test_fraction: 0.3", f"test_fraction: {share}"))
    line = next(at for at, text in enumerate(path.read_text().splitlines(), 1) if "test_fraction" in text)
    with pytest.raises(StudyInvalid) as caught:
        studyfile.read(path)
    assert (
        caught.value.message
        == f"study.yaml:{line}: evaluation.test_fraction: '{share}': must be a multiple of 0.05: write {near}"
    )
    assert [Evaluation(test_fraction=one / 20).test_fraction * 20 for one in range(1, 21)] == list(range(1, 21))
    assert Evaluation(test_fraction=0.1 + 0.2).test_fraction == 0.3


@settings(max_examples=40, deadline=None)
@given(studies())
def test_a_plan_is_read_back_from_its_bytes(study: Study) -> None:
    plan = Plan.of(study)
    assert Plan.load(plan.payload) == plan
