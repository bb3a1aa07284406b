"""A trainer for measuring: the model is a vector of `options.size` float32, and training adds one constant to it.

The constant is the mean of the site's first column, so that every site adds another one and the mean can be checked.
It is installed as any plug-in of an outsider is (see `place.py`); nothing of the product is replaced.
"""

import numpy as np


class AddConstant:
    """A model of any size that takes next to no time to train."""

    def initial(self, study, names):
        """Random values, so that nothing along the way can shrink them."""
        size = int(study.model.options["size"])
        return {"vector": np.random.default_rng(study.training.seed).standard_normal(size, dtype=np.float32)}

    def train(self, study, model, x, y, objective, number):
        """Add the constant."""
        return {"vector": model["vector"] + np.float32(x[:, 0].mean())}

    def predict(self, study, model, x):
        """Nothing is learned."""
        return np.full(len(x), 0.5)
