"""What a user of the estimators waits for, validation included."""

import time
import warnings
from statistics import median

import numpy as np
from cases import CASES, data

from .common import REPEAT, TIMEOUT, fitted, skip_without

# name: parameters
FEATURES = {
    "mish": {"activation": "mish"},
    "gelu": {"activation": "gelu"},
    "dropout": {"dropout": 0.1},
    "weight decay": {"weight_decay": 0.01},
    "clipnorm": {"clipnorm": 1.0},
    "label smoothing": {"label_smoothing": 0.1},
    "cosine": {"learning_rate": "cosine"},
    "class weights": {"class_weight": "balanced"},
    "validation": {"scoring": "loss"},
}


class Predict:
    """All rows of a case, and single rows again and again."""

    params = ["default", "mnist512"]
    param_names = ["case"]
    timeout, repeat, rounds = TIMEOUT, REPEAT, 1

    def setup(self, name):
        self.model, self.X, _ = fitted(name)
        self.one, self.calls = self.X[:1], {"default": 2_000, "mnist512": 40}[name]
        self.model.predict_proba(self.X)
        self.model.predict_proba(self.one)

    def time_all_rows(self, name):
        for _ in range(3 * CASES[name].steady):
            self.model.predict(self.X)

    def time_one_row(self, name):
        for _ in range(self.calls):
            self.model.predict_proba(self.one)


class Fit:
    """What comes on top of plain training: early stopping, partial_fit, regression; 30 epochs each."""

    timeout, repeat, rounds = TIMEOUT, REPEAT, 1

    def setup(self):
        skip_without("fastmlp.estimators")
        from fastmlp import MLPRegressor

        warnings.simplefilter("ignore")
        self.early, self.X, self.y = fitted("default", early_stopping=True, max_iter=30)
        self.early.fit(self.X, self.y)
        self.partial, *_ = fitted("default")
        self.regressor = MLPRegressor(max_iter=30, tol=0.0, n_iter_no_change=40, random_state=0)
        self.targets = self.X @ data(CASES["default"], "float32")[0][:20, :1].ravel()
        self.regressor.fit(self.X, self.targets)

    def time_early_stopping(self):
        self.early.fit(self.X, self.y)

    def time_partial_fit(self):
        for _ in range(30):
            self.partial.partial_fit(self.X, self.y)

    def time_regressor(self):
        self.regressor.fit(self.X, self.targets)


class Features:
    """What a feature of our own costs: the time of a fit with it by that of the same fit without, in turns."""

    params = [["digits"], list(FEATURES)]
    param_names = ["case", "feature"]
    timeout = TIMEOUT

    def setup(self, name, feature):
        self.plain, self.X, self.y = fitted(name)
        try:
            self.featured, *_ = fitted(name, **FEATURES[feature])
            self.seconds(self.featured, feature)
        except TypeError as error:  # of an older commit's constructor
            raise NotImplementedError(str(error)) from error

    def seconds(self, model, feature):
        extra = {"X_val": self.X[:1_000], "y_val": self.y[:1_000]} if feature == "validation" else {}
        begin = time.perf_counter()
        model.fit(self.X, self.y, **extra)
        return time.perf_counter() - begin

    def track_with_to_without(self, name, feature):
        """The less, the better; 1 is free of cost."""
        return median(self.seconds(self.featured, feature) / self.seconds(self.plain, "") for _ in range(9))

    track_with_to_without.unit = "ratio"


class Tables:
    """RealMLP on a table of 2,000 rows with 20 numbers and a column of 12 categories: 20 epochs, and predictions."""

    params = [["td", "td-s"], ["Classifier", "Regressor"]]
    param_names = ["variant", "task"]
    timeout, repeat, rounds = TIMEOUT, REPEAT, 1

    def setup(self, variant, task):
        skip_without("fastmlp.realmlp")
        import fastmlp

        rng = np.random.RandomState(0)
        numbers = rng.normal(size=(2_000, 20))
        self.y = numbers[:, 0] * numbers[:, 1] + rng.normal(size=2_000)
        if task == "Classifier":
            self.y = self.y > 0
        self.X = np.column_stack([numbers.astype(object), rng.choice(list("abcdefghijkl"), 2_000)])
        self.model = getattr(fastmlp, f"RealMLP{task}")(variant, max_iter=20, random_state=0).fit(self.X, self.y)

    def time_fit(self, variant, task):
        self.model.fit(self.X, self.y)

    def time_predict(self, variant, task):
        self.model.predict(self.X)
