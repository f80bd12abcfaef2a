"""Sparse X: texts as a bag of words. `python bench/text.py` compares with scikit-learn."""

import warnings

from text import classifier, texts

from .common import REPEAT, TIMEOUT, skip_without


class Texts:
    params = [["float32", "float64"], ["csr", "csc"]]
    param_names = ["dtype", "format"]
    timeout, repeat, rounds = TIMEOUT, REPEAT, 1

    def setup(self, dtype, form):
        skip_without("fastmlp.estimators")
        warnings.simplefilter("ignore")  # that it has not converged
        X, self.y = texts(dtype)
        self.X = X.asformat(form)
        self.model = classifier("fastmlp", max_iter=1).fit(self.X, self.y)
        self.model.set_params(max_iter=2)

    def time_fit(self, dtype, form):
        self.model.fit(self.X, self.y)

    def time_predict(self, dtype, form):
        self.model.predict(self.X)

    def peakmem_fit(self, dtype, form):
        self.model.fit(self.X, self.y)

    def track_loss(self, dtype, form):
        return float(self.model.fit(self.X, self.y).loss_)

    track_loss.unit = "loss"
