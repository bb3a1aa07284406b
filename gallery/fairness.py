# %% [markdown]
# # Fairness: the hospital that is served worst
#
# A common model is best for those who are many. Here a small hospital measures differently: its microscope tells
# lengths two fifths too short, and nobody has noticed. What can be done for its patients, and what does it cost the
# others?
#
# The patients are real: 569 with a breast mass, which scikit-learn brings. The hospitals and the fault are made up.

# %%
import numpy as np
from sklearn.datasets import load_breast_cancer

from consilium import notebook

found = load_breast_cancer()
names = [str(name).replace("mean ", "").replace(" ", "_") for name in found.feature_names[:10]]
order = np.random.default_rng(3).permutation(len(found.target))
tables = {}
for hospital, rows in {"large": order[:230], "middle": order[230:410], "small": order[410:]}.items():
    values = dict(zip(names, found.data[rows, :10].T.copy(), strict=True))
    if hospital == "small":
        for name, times in {"radius": 0.6, "perimeter": 0.6, "area": 0.6**2}.items():
            values[name] *= times
    tables[hospital] = {**values, "malignant": 1 - found.target[rows]}
for hospital, table in tables.items():
    print(f"{hospital:6} {len(table['malignant'])} patients, mean radius {table['radius'].mean():.1f}")

# %%
RANGES = {
    "radius": [2, 30],
    "texture": [5, 45],
    "perimeter": [10, 200],
    "area": [10, 2600],
    "smoothness": [0.04, 0.18],
    "compactness": [0, 0.4],
    "concavity": [0, 0.5],
    "concave_points": [0, 0.25],
    "symmetry": [0.08, 0.35],
    "fractal_dimension": [0.04, 0.11],
}
features = [
    {"id": name, "meaning": name, "type": "number", "unit": "1", "range": ends, "missing": "forbidden"}
    for name, ends in RANGES.items()
]
study = notebook.load(
    {
        "consilium": 1,
        "name": "fairness",
        "title": "Malignancy of a breast mass, at hospitals that measure differently",
        "purpose": {"code": "research", "text": "Who is served worst, and what helps.", "requester": "Example group"},
        "contract": {
            "id": "breast-cancer",
            "features": features,
            "label": {"id": "malignant", "meaning": "malignant at histology", "type": "binary"},
        },
        "model": {"kind": "logistic", "l2": 0.001},
        "training": {"epochs": 5, "learning_rate": 1.0},
        "privacy": {"recipe": "secure_sum"},
        "rounds": 80,
        "quorum": 3,
        "evaluation": {"test_fraction": 0.4},
    }
)

# %% [markdown]
# ## Three ways to count hospitals
#
# `fedavg` counts every patient alike. Under `qfedavg` a hospital counts for more, the higher its loss is. `afl` makes
# the loss of the worst-off hospital the least that it can be. All three work within a secure sum: nobody sees whose
# loss it is.

# %%
ways = {
    "fedavg": "fedavg",
    "qfedavg": {"strategy": {"name": "qfedavg", "options": {"q": 1.0, "largest_loss": 1.0}}},
    "afl": "afl",
}
compared = notebook.compare(study, tables, ways)
print(compared.text("brier"))

# %% [markdown]
# With `afl` the small hospital gains, and the others pay for it: over all patients the scores are worse. That is what
# fairness of this kind means, and whether it is wanted is no question of statistics. `qfedavg` changes little in so
# many rounds. On the patients held out it is the same:

# %%
for name in ("fedavg", "afl"):
    simulated = notebook.simulate(compared.ways[name].study, tables)
    worth = {site: figures["brier"]["value"] for site, figures in simulated.figures["sites"].items()}
    print(f"{name:6} Brier score", ", ".join(f"{value:.3f} {site}" for site, value in worth.items()))
report = simulated.report()
report.write("fairness.html")

# %% [markdown]
# ## The cause
#
# A model of its own (`ditto`) serves the small hospital as well, and costs the others nothing. Best is to find the
# fault: with the lengths put right, there is nothing left to pay.

# %%
print(notebook.compare(study, tables, {"own models": "ditto"}).text("brier"))
mended = {**tables, "small": dict(tables["small"])}
for name, times in {"radius": 0.6, "perimeter": 0.6, "area": 0.6**2}.items():
    mended["small"][name] = tables["small"][name] / times
print(notebook.compare(study, mended, {"put right": "fedavg"}).text("brier"))
plot = compared.plot("brier")
plot
