"""What a check sees of images: blank ones, faint ones, none at all; and what a person sees of their values."""

from typing import Any

import numpy as np
import yaml

from consilium.core.study import Study
from consilium.data import contract, quality
from consilium.data.base import Rows
from consilium.data.mapping import Mapping
from unit.data.conftest import STUDY

IMAGE = {"meaning": "chest", "modality": ["CR"], "rows": 2, "columns": 3, "range": [0, 255]}
GIVEN = yaml.safe_load(STUDY)
STUDIED = Study.model_validate({
    **GIVEN, "contract": {"id": "c", "image": IMAGE, "label": GIVEN["contract"]["label"]},
    "model": {"kind": "torch", "architecture": "cnn", "options": {"shape": [1, 2, 3]}},
})  # fmt: skip
MAPPED = Mapping.model_validate({
    "mapping": 1, "contract": "c", "patient": {"column": "patient_no"}, "features": {},
    "source": {"type": "dicom", "path": "x", "dicom": {"labels": {"type": "csv", "path": "y"}, "accession": "z"}},
    "label": {"column": "y", "codes": {"0": 0, "1": 1}},
})  # fmt: skip


def looked(given: Any) -> quality.Report:
    n = len(given)
    columns = {"patient_no": [f"p{i}" for i in range(n)], "y": [str(i % 2) for i in range(n)]}
    rows = Rows(columns, image=given.astype(np.float32))
    return quality.check(STUDIED, contract.apply(MAPPED, STUDIED.contract, STUDIED.evaluation, rows))


def test_images_that_say_nothing_or_fill_little_of_the_range_are_told() -> None:
    chance = np.random.default_rng(1)
    whole = chance.uniform(0, 255, size=(40, 6))
    whole[:, 0], whole[:, 1] = 0, 255
    assert looked(whole).findings == () and looked(whole).usable
    seen = looked(whole).features[0].spread
    assert (
        seen.words.endswith("mean of each image (" + seen.words.partition("(")[2]) and seen.against == "range 0 to 255"
    )
    (sixteenth,) = looked(whole / 16).findings  # 12 bits, and Bits Stored says 16
    assert (sixteenth.kind, sixteenth.count, sixteenth.blocks) == (
        "other-unit",
        40,
        False,
    ) and "Bits" in sixteenth.remedy
    some = whole.copy()
    some[:12] = 7
    (blank,) = looked(some).findings
    assert (blank.kind, blank.count, blank.blocks) == ("constant", 12, False) and "one value" in blank.words
    some[3:] = whole[3:]
    assert [(one.kind, one.count) for one in looked(some).findings] == [("constant", "<10")]
    none = looked(np.full_like(whole, np.nan)).findings
    assert [one.kind for one in none] == ["few-patients", "no-values"] and "accession" in none[-1].remedy
