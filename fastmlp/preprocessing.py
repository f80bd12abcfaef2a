"""What RealMLP (Holzmueller et al., NeurIPS 2024) does to a table before a network sees it, as two transformers.

pandas and polars are never imported: of a column of theirs `dtype`, `to_numpy` and `to_list` are asked.
"""

from __future__ import annotations

import datetime
import math
import os
from collections import Counter
from numbers import Complex, Integral, Number, Real
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils import assert_all_finite, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_array, check_is_fitted, validate_data

from fastmlp._onnx import convertible, tell_skl2onnx

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike
    from typing_extensions import Self

_TIMES = datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64
# Where X is converted and summed up to see whether it is finite: an error tells of it if it is not.
_QUIET = {"over": "ignore", "invalid": "ignore"}
# Half the largest number: twice this is one still.
_LARGE = np.finfo(np.float64).max / 2
# Numbers that are worked on at a time: they stay in the cache.
_BLOCK = 2**16


def memory():
    """How many bytes this machine has; infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def _is_frame(X):
    return all(hasattr(X, attribute) for attribute in ("shape", "columns", "dtypes"))


def _kind(type_, name):
    """What values of a type are: "missing", "number", "bool", or "text", which is all else that can be a category."""
    if type_.__name__ in ("NoneType", "NAType", "NaTType"):
        return "missing"
    if issubclass(type_, (bool, np.bool_)):
        return "bool"
    if issubclass(type_, _TIMES) or type_.__name__ == "Period":
        what, into = "dates or times", "numbers, such as year, month and day, or days since a date"
    elif type_.__hash__ is None or issubclass(type_, tuple):
        what, into = "lists or other nested values", "columns of numbers or text"
    elif issubclass(type_, Complex) and not issubclass(type_, Real):
        what, into = "complex numbers", "real and imaginary parts"
    else:
        return "number" if issubclass(type_, Number) else "text"
    raise ValueError(f"Column {name!r} holds {what}: turn it into {into} first.")


def _kind_of_dtype(column, name):
    dtype = column.dtype
    return _kind(dtype.to_python() if hasattr(dtype, "to_python") else dtype.type, name)  # the first is polars' way


def values_of(column, name):
    """Values as Python has them, with None for what is missing, and the kinds of the others."""
    _kind_of_dtype(column, name)
    values = column.to_list() if hasattr(column, "to_list") else column.tolist()
    kinds = {type_: _kind(type_, name) for type_ in set(map(type, values))}
    if not kinds.keys() <= {str, int, bool}:  # of others some may be missing: NaN is unlike itself
        values = [None if kinds[type(value)] == "missing" or value != value else value for value in values]
    return values, {kinds[type_] for type_ in set(map(type, values)) - {type(None)}}


def _kinds_at_first(X, name, column):
    """By dtype; but in an array of objects by values, as nobody has chosen a dtype for a column there."""
    by_values = column.dtype == object and not _is_frame(X)
    return values_of(column, name)[1] if by_values else {_kind_of_dtype(column, name)}


def _as_text(values):
    return [value if value is None or isinstance(value, str) else str(value) for value in values]


def _numbers(column, name):
    """A column of numbers as float64, with NaN for what is missing."""
    _kind_of_dtype(column, name)
    numbers = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if numbers.dtype.kind not in "biuf":
        values, kinds = values_of(column, name)
        if "text" in kinds:
            raise ValueError(
                f"Column {name!r} holds text where numbers belong: turn it into numbers, or fit with it among the"
                " categorical_features."
            )
        try:
            numbers = np.array([math.nan if value is None else float(value) for value in values])
        except OverflowError:  # of an int
            numbers = np.array([math.inf])
    with np.errstate(**_QUIET):
        numbers = numbers.astype(np.float64, copy=False)
        assert_all_finite(numbers, allow_nan=True, input_name="X")
    return numbers


def _codes(column, name, categories, kinds):
    """1, 2, ... for the categories, 0 for what is missing or was not there in fit, when there were these kinds."""
    values, found = values_of(column, name)
    was_text, is_text = ({kind == "text" for kind in some} for some in (kinds, found))
    if was_text and is_text and not was_text & is_text:
        was, now = ("text", "numbers") if "text" in kinds else ("numbers", "text")
        raise ValueError(f"Column {name!r} held {was} in fit and holds {now}: turn it into {was} again.")
    code = {category: i for i, category in enumerate(categories, start=1)}
    return np.array([code.get(v, 0) for v in (_as_text(values) if "text" in kinds else values)], dtype=np.intp)


def _one_hot(codes, n_categories):
    """Its columns: one for each category, but of two categories a single one."""
    if n_categories == 1:
        return np.where(codes == 1, 1, -1)[:, None]
    if n_categories == 2:
        return np.array([0, 1, -1])[codes][:, None]
    return codes[:, None] == np.arange(1, n_categories + 1)


@convertible
class TableEncoder(TransformerMixin, BaseEstimator):
    """Make a matrix of numbers of a table that holds numbers and categories, as RealMLP has it; nothing is scaled.

    Columns of the result, in this order:

    - Numbers, as they are. What is missing is NaN.
    - For each column of numbers that had missing ones in fit, an indicator: 1 where the number is missing, else 0.
    - For each column of categories, one-hot: a column for each category, 1 where it is there, else 0. A missing value,
      and one that was not there in fit, is 0 in all. Two categories make a single column: 1 for the first, -1 for the
      second, 0 for neither. A single one makes a column of 1, and -1 for what is missing or new.
    - For each column of more than `max_one_hot` categories, codes: 1, 2, ... for the categories, 0 for neither.

    Parameters
    ----------
    categorical_features : 'from_dtype', array-like of {bool, int, str} or None, default='from_dtype'
        Which columns hold categories:

        - 'from_dtype': of a DataFrame those of text, of bool, of pandas' category and object, of polars' Categorical
          and Enum. An array of text or bool has nothing else; of an array of objects, columns that hold anything but
          numbers. Lists are such arrays.
        - array-like: a mask, positions, or names of columns of a DataFrame.
        - None: none.
    max_one_hot : int, default=None
        Columns of more categories than this become codes; missing values are not counted. None: all become one-hot,
        and a column of text that differs in all n rows makes n columns.

    Attributes
    ----------
    categories_ : list of ndarray
        Categories of each column that holds such, sorted.
    is_categorical_ : ndarray of shape (n_features_in_,)
        Which columns of X hold categories.
    missing_features_ : ndarray of int
        Columns of X that have an indicator.
    n_numbers_ : int
        Columns of the result that are numbers.
    n_plain_ : int
        Columns of the result that are indicators or one-hot; they stand after the numbers.
    category_counts_ : tuple of int
        For each column of codes, which stand last, the number of categories: the largest code.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X has names that are all strings.

    See Also
    --------
    RobustScaleSmoothClip : What RealMLP does to the numbers and the one-hots next.
    sklearn.preprocessing.OneHotEncoder, sklearn.preprocessing.OrdinalEncoder : For categories alone.

    Notes
    -----
    Missing are None, NaN, and what pandas and polars have for it; the empty string is a category. Categories that are
    all numbers, True and False among them, are compared as numbers. Where others are among them, all are compared as
    text: 1 is then the same as "1". Dates, times and nested values are refused.

    Examples
    --------
    >>> from fastmlp import TableEncoder
    >>> rows = [["red", 1.5], ["green", None], ["blue", 2.5], [None, 0.5]]
    >>> encoder = TableEncoder().fit(rows)
    >>> encoder.get_feature_names_out().tolist()
    ['x1', 'missingindicator_x1', 'x0_blue', 'x0_green', 'x0_red']
    >>> encoder.transform(rows)
    array([[1.5, 0. , 0. , 0. , 1. ],
           [nan, 1. , 0. , 1. , 0. ],
           [2.5, 0. , 1. , 0. , 0. ],
           [0.5, 0. , 0. , 0. , 0. ]])
    """

    _parameter_constraints: dict = {
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "max_one_hot": [Interval(Integral, 0, None, closed="left"), None],
    }

    def __init__(self, categorical_features="from_dtype", *, max_one_hot=None):
        self.categorical_features = categorical_features
        self.max_one_hot = max_one_hot

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn which columns are categories, which categories there are, and where numbers are missing.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            With sparse X no column is a category, unless it is said.
        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        tell_skl2onnx()
        return self._fit(X, self)

    def _fit(self, X, estimator):
        """As `fit`; errors and warnings name the estimator that this one works for, and it too learns X's columns."""
        columns = self._columns(X, reset=True, estimator=estimator)
        of_columns = {name: vars(estimator).get(name) for name in ("n_features_in_", "feature_names_in_")}
        self.__dict__.pop("feature_names_in_", None)
        vars(self).update({name: value for name, value in of_columns.items() if value is not None})
        self.is_categorical_ = self._find_categorical(X, columns)
        self.categories_, self._kinds, missing = [], [], []
        limit = math.inf if self.max_one_hot is None else self.max_one_hot
        for i, (name, column) in enumerate(columns):
            if self.is_categorical_[i]:
                values, kinds = values_of(column, name)
                categories = set(_as_text(values) if "text" in kinds else values) - {None}
                self.categories_.append(np.array(sorted(categories), dtype=object))
                self._kinds.append(kinds)
            elif np.isnan(_numbers(column, name)).any():
                missing.append(i)
        self.missing_features_ = np.array(missing, dtype=np.intp)
        self.n_numbers_ = self.n_features_in_ - len(self.categories_)
        counts = [len(categories) for categories in self.categories_]
        self._coded = [k > limit for k in counts]
        self.n_plain_ = len(missing) + sum(1 if k == 2 else k for k in counts if k <= limit)
        self.category_counts_ = tuple(k for k in counts if k > limit)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Make numbers of a table.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            With the columns of fit, in their order.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_numbers_ + n_plain_ + len(category_counts_))
        """
        check_is_fitted(self)
        return self._transform(X, self)

    def _transform(self, X, estimator):
        """As `transform`; errors and warnings name the estimator that this one works for."""
        columns = self._columns(X, reset=False, estimator=estimator)
        self._check_memory(len(columns[0][1]))
        numbers, indicators, one_hots, codes = [], [], [], []
        of_categories = zip(self.categories_, self._kinds, self._coded, strict=True)
        for i, (name, column) in enumerate(columns):
            if self.is_categorical_[i]:
                categories, kinds, coded = next(of_categories)
                found = _codes(column, name, categories, kinds)
                if coded:
                    codes.append(found[:, None])
                else:
                    one_hots.append(_one_hot(found, len(categories)))
            else:
                numbers.append(_numbers(column, name)[:, None])
                if i in self.missing_features_:
                    indicators.append(np.isnan(numbers[-1]))
        nothing = np.empty((len(columns[0][1]), 0))  # all categories may be missing
        return np.hstack([nothing, *numbers, *indicators, *one_hots, *codes], dtype=np.float64)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Names of the columns that `transform` gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X, where fit has seen none; else the same.

        Returns
        -------
        feature_names_out : ndarray of str
            A number and a column of codes keep their name, an indicator is `missingindicator_NAME`, a one-hot
            `NAME_CATEGORY`: of two categories, the first.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        numbers = list(names[~self.is_categorical_])
        indicators = [f"missingindicator_{name}" for name in names[self.missing_features_]]
        one_hots, codes = [], []
        of_categories = zip(names[self.is_categorical_], self.categories_, self._coded, strict=True)
        for name, categories, coded in of_categories:
            if coded:
                codes.append(name)
            else:
                named = categories[:1] if len(categories) == 2 else categories
                one_hots += [f"{name}_{category}" for category in named]
        return np.array(numbers + indicators + one_hots + codes, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        return tags

    def _check_memory(self, n_rows):
        """A system may hand out memory that it does not have, and end the process that uses it."""
        n_columns = self.n_numbers_ + self.n_plain_ + len(self.category_counts_)
        size = n_rows * n_columns * 8
        if size > memory():
            names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))[self.is_categorical_]
            counts = sorted((len(found), str(name)) for found, name in zip(self.categories_, names, strict=True))
            message = f"X would become a matrix of {n_columns} columns, {size / 1e9:.0f} GB."
            for n, name in counts[-1:]:
                message += f" Column {name!r} has {n} categories: leave it out, or set max_one_hot."
            raise MemoryError(message)

    def _columns(self, X, reset, estimator):
        """Names, or positions, of the columns of X and the columns themselves; X is checked."""
        if _is_frame(X):
            twice = [name for name, times in Counter(X.columns).items() if times > 1]
            if twice:
                raise ValueError(f"The columns of X must have names that differ, got more than once: {twice}.")
            validate_data(estimator, X, reset=reset, skip_check_array=True)
            check_array(np.broadcast_to(np.int8(0), X.shape), estimator=estimator, input_name="X")  # of the shape alone
            return [(name, X[name]) for name in X.columns]
        dtype = None if hasattr(X, "dtype") else object  # of a list NumPy would make text, where there is any
        X = validate_data(estimator, X, reset=reset, accept_sparse=True, dtype=dtype, ensure_all_finite=False)
        return list(enumerate(X.toarray().T if scipy.sparse.issparse(X) else X.T))

    def _find_categorical(self, X, columns):
        """Which columns hold categories; errors in the words of HistGradientBoostingClassifier."""
        n_features = len(columns)
        if isinstance(self.categorical_features, str):
            return np.array([not _kinds_at_first(X, name, column) <= {"number"} for name, column in columns])
        is_categorical = np.zeros(n_features, dtype=bool)
        features = np.asarray([] if self.categorical_features is None else self.categorical_features)
        if features.size == 0:
            return is_categorical
        types = (
            {type(feature).__name__ for feature in features} if features.dtype.kind == "O" else {features.dtype.name}
        )
        if features.dtype.kind not in "ibU" and types != {"str"}:
            got = ", ".join(sorted(types))
            raise ValueError(f"categorical_features must be an array-like of bool, int or str, got: {got}.")
        if features.dtype.kind == "b" and features.shape != (n_features,):
            raise ValueError(
                f"categorical_features set as a boolean mask must have shape (n_features,), got: {features.shape}"
            )
        if features.dtype.kind == "i" and (features.max() >= n_features or features.min() < 0):
            raise ValueError("categorical_features set as integer indices must be in [0, n_features - 1]")
        if features.dtype.kind in "UO":
            if not _is_frame(X):
                raise ValueError(
                    "categorical_features should be passed as an array of integers or as a boolean mask when the model"
                    " is fitted on data without feature names."
                )
            names = list(X.columns)
            for feature in features:
                if feature not in names:
                    raise ValueError(
                        f"categorical_features has an item value '{feature}' which is not a valid feature name of the"
                        f" training data. Observed feature names: {names}"
                    )
            features = [names.index(feature) for feature in features]
        is_categorical[features] = True
        return is_categorical


@convertible
class RobustScaleSmoothClip(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Bring each column to one scale, by median and quartiles, and its tails smoothly to within 3.

    With s = 1 / (q75 - q25), or 2 / (max - min) where the quartiles are equal, or 0 where all values are::

        z = (x - median) s            x_new = z / sqrt(1 + (z / 3)^2)

    Parameters
    ----------
    impute : bool, default=False
        Whether NaN, which fit takes no notice of, becomes 0: the median. Else it stays.

    Attributes
    ----------
    center_ : ndarray of shape (n_features_in_,)
        Medians; NaN where a column was all NaN, and all that this column becomes is NaN, or imputed.
    scale_ : ndarray of shape (n_features_in_,)
        The factors s: of float64's range, so not above 9e307.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X has names that are all strings.

    See Also
    --------
    TableEncoder : What makes numbers of a table first.
    sklearn.preprocessing.RobustScaler : Without the clip; its `scale_` is 1 / s.

    Examples
    --------
    >>> from fastmlp import RobustScaleSmoothClip
    >>> RobustScaleSmoothClip().fit_transform([[1.0], [2.0], [3.0], [4.0], [1e9]]).round(2).ravel()
    array([-0.95, -0.49,  0.  ,  0.49,  3.  ])
    """

    _parameter_constraints: dict = {"impute": ["boolean"]}

    def __init__(self, *, impute=False):
        self.impute = impute

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn median and scale of each column.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        tell_skl2onnx()
        X = self._validate(X, reset=True)
        halves = np.multiply(X, 0.5, dtype=np.float64)  # differences of halves do not overflow
        halves.sort(axis=0)  # NaN comes last
        last = np.count_nonzero(~np.isnan(halves), axis=0) - 1

        def quantile(q):
            at = last * q  # -1, or 0, of a column of NaN
            below = np.floor(at).astype(np.intp)
            a, b = (np.take_along_axis(halves, row[None], axis=0)[0] for row in (below, np.ceil(at).astype(np.intp)))
            return a + (b - a) * (at - below)

        spread = quantile(0.75) - quantile(0.25)
        spread = np.where(spread > 0, spread, (quantile(1) - quantile(0)) / 2)
        with np.errstate(divide="ignore", over="ignore"):
            self.scale_ = np.where(spread > 0, np.minimum(0.5 / spread, _LARGE), 0.0)
        self.center_ = 2 * quantile(0.5)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Scale and clip.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            float32 if X is, else float64.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        X_new = np.empty_like(X)
        for rows in gen_batches(len(X), max(1, _BLOCK // X.shape[1])):
            with np.errstate(over="ignore"):
                z = (np.multiply(X[rows], 0.5, dtype=np.float64) - self.center_ / 2) * (2 * self.scale_)
            np.clip(z, -1e100, 1e100, out=z)  # which become -3 and 3, as infinity would not
            z /= np.sqrt(1 + (z / 3) ** 2)
            if self.impute:
                z[np.isnan(z)] = 0
            X_new[rows] = z
        return X_new

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validate(self, X, reset):
        with np.errstate(**_QUIET):
            return validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
