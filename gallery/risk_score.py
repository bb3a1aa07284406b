# %% [markdown]
# # A risk score from a table
#
# Four hospitals want to know how likely a breast mass is malignant, from ten measurements of the cell nuclei in a
# fine-needle aspirate. Their patients differ: one screens, and sees small tumours; one is a tumour centre. Each has its
# own column names, units and codes, and a mapping to the study's contract.
#
# The patients are real: 569 from Wisconsin, which scikit-learn brings. Who is at which hospital was made up.

# %%
import tempfile
from pathlib import Path

from consilium import notebook
from consilium.simulation.hospitals import breast_cancer

folder = Path(tempfile.mkdtemp())
breast_cancer(folder)  # what `consilium demo --prepare` writes: a study file, and a folder for each hospital
study = notebook.load(folder / "study.yaml")
print(study.title, "by", len(study.contract.features), "measurements, protected by", study.privacy.recipe)

# %% [markdown]
# ## How long, and by which algorithm?
#
# Before the hospitals are asked for anything, the study is simulated in several ways. They are compared on a part of
# the training patients: those who are held out are to judge what is chosen, so that the choice must not see them.

# %%
compared = notebook.compare(
    study,
    folder,
    {
        "as it is": {},
        "5 rounds": {"rounds": 5},
        "60 rounds": {"rounds": 60},
        "momentum": "fedavgm",
    },
)
print(compared.text("brier"))

# %% [markdown]
# The study as it is stops too early: with more rounds, or with momentum at the coordinator, chances come nearer to what
# happens. Most of these hospitals have fewer than ten patients of a class among so few, and are not compared singly.
#
# ## What it is worth
#
# On the patients held out, beside what each hospital could have had alone: its own model, judged on everybody's
# patients.

# %%
chosen = compared.ways["momentum"].study
simulated = notebook.simulate(chosen, folder)
alone = notebook.baseline(chosen, folder)
report = simulated.report(alone)
common = simulated.figures["all"]["brier"]
print(f"Brier score on everybody's held-out patients: {common['value']:.3f} together")
for name, facts in alone["hospitals"].items():
    print(f"{facts['own_on_all']['brier']['value']:.3f} by {name} alone")

# %% [markdown]
# The report says first what must be seen first. It is one file that stands alone.

# %%
for finding in report.findings.found:
    print(f"{finding.level}: {finding.title}. {finding.text}")
report.write("risk-score.html")
plot = report.plots()["calibration"]  # the last value of a notebook's cell is shown
plot
