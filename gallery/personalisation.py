# %% [markdown]
# # Personalisation: a model for each hospital, beside the common one
#
# Four hospitals, real ones: Cleveland, Budapest, Zurich with Basel, and Long Beach (UCI Heart Disease, CC BY 4.0). In
# Switzerland more than nine in ten patients who were examined had coronary disease, in Budapest a third. What a finding
# says is much the same everywhere; how likely the disease is to begin with is not. A common model is a compromise.
#
# Each keeps its raw file as it is: with `?` or 0 for what was not measured. `CONSILIUM_DATA` names the folder in which
# `heart_disease/processed.cleveland.data` and its like lie; they do not come with Consilium.

# %%
import os
import tempfile
from pathlib import Path

from consilium import notebook
from consilium.simulation.hospitals import heart_disease

DATA = Path(os.environ.get("CONSILIUM_DATA", "../shared/data")) / "heart_disease"
if not DATA.is_dir():
    raise SystemExit(f"skipped: {DATA} is not here")
folder = Path(tempfile.mkdtemp())
heart_disease(folder, DATA)  # a study file, and for each hospital its raw file with a mapping
study = notebook.load(folder / "study.yaml")

# %% [markdown]
# ## Four ways
#
# `ditto` trains a model of each hospital's own beside the common one, held near it by a penalty; without one, each
# trains alone. `fedper` keeps parts of the model at home: here the intercept, which is the log odds to begin with. They
# are judged on a part of the training patients.

# %%
ways = {
    "common": "fedavg",
    "ditto": {"strategy": {"name": "ditto", "options": {"penalty": 0.1}}},
    "own intercept": {"strategy": {"name": "fedper", "options": {"layers": ["intercept"]}}},
    "each alone": {"strategy": {"name": "ditto", "options": {"penalty": 0.0}}},
}
compared = notebook.compare(study, folder, ways)
print(compared.text("brier"))

# %% [markdown]
# Models of one's own, which lean on the common one, are as good as that or a little better over all; alone, hospitals
# have too few patients. In Switzerland too few are without the disease for a comparison.
#
# ## On the patients held out
#
# Ditto beside the common model. O:E is how many had the disease, for one whom the model expects: in Budapest the common
# model expects too many.

# %%
common = notebook.simulate(study, folder).report()
personal = notebook.simulate(compared.ways["ditto"].study, folder).report()


def figure(report, hospital, metric):
    rows = report.tables()["figures"]
    return next((row for row in rows if (row["hospital"], row["metric"]) == (hospital, metric)), {}).get("value")


for site in ("cleveland", "hungarian", "all"):
    brier, expected = (
        [figure(one, site, of) for one in (common, personal)] for of in ("brier", "observed_to_expected")
    )
    print(f"{site:10} Brier score {brier[0]:.3f} common, {brier[1]:.3f} own; ", end="")
    print(f"O:E {expected[0]:.2f} common, {expected[1]:.2f} own")
personal.write("personalisation.html")
plot = compared.plot("brier")
plot
