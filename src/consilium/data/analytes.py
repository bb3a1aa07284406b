"""What is known of substances: by it a mass, an amount and equivalents of one are converted into each other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Analyte:
    """g_per_mol: molar mass; None where none converts, or it is not known.   eq_per_mol: valence; None likewise."""

    g_per_mol: float | None
    eq_per_mol: int | None = None


ANALYTES = {
    "glucose": Analyte(180.16), "creatinine": Analyte(113.12), "bilirubin": Analyte(584.66), "urea": Analyte(60.06),
    "bun": Analyte(28.01), "cholesterol": Analyte(386.65), "calcium": Analyte(40.08, 2), "lactate": Analyte(90.08, 1),
    "triglycerides": Analyte(885.4), "uric acid": Analyte(168.11), "magnesium": Analyte(24.305, 2),
    "sodium": Analyte(22.990, 1), "potassium": Analyte(39.098, 1), "chloride": Analyte(35.453, 1),
    "bicarbonate": Analyte(61.017, 1), "hba1c": Analyte(None),
}  # fmt: skip
"""For BUN the two nitrogen atoms of urea count."""
HBA1C = "hba1c"
NGSP = 0.09148, 2.152
"""Factor and offset: HbA1c in % (NGSP) = factor * value in mmol/mol (IFCC) + offset. Source: the master equation of
IFCC and NGSP, https://ngsp.org/ifccngsp.asp: two methods, of which one measures more than the other, and no ratio."""
