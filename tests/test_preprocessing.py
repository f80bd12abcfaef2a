"""TableEncoder and RobustScaleSmoothClip: RealMLP's numbers, every kind of table and column, extremes, errors."""

import datetime
import decimal
import math
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers import run_code
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp import RobustScaleSmoothClip, TableEncoder

NAN = math.nan
# What pytabkit 1.7.3 makes of `realmlp_table()`: see `pytabkit()`.
STORED = Path(__file__).with_name("realmlp_table.npz")


@parametrize_with_checks(
    [TableEncoder(), TableEncoder([0], max_one_hot=3), RobustScaleSmoothClip(), RobustScaleSmoothClip(impute=True)]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# ---- RealMLP ----------------------------------------------------------------------------------------------------


def realmlp_table(n=40):
    """Numbers of all sorts, which float32 holds too, as pytabkit computes in it; then categories as text."""
    rng = np.random.RandomState(0)
    numbers = {
        "normal": rng.randn(n),
        "heavy_tails": 10 * rng.standard_cauchy(n) + 5,
        "constant": np.full(n, 3.25),
        "zero_iqr": np.where(np.arange(n) % 10 == 0, 1.5 * np.arange(n), -2),
        "skewed": 1e3 * np.exp(2 * rng.randn(n)),
    }
    table = {name: values.astype(np.float32).astype(np.float64) for name, values in numbers.items()}
    for k in (1, 2, 3, 12):
        table[f"cat_{k}"] = np.array([f"v{i % k}" for i in rng.permutation(n)], dtype=object)
        table[f"cat_{k}_missing"] = np.where(rng.rand(n) < 0.2, None, rng.permutation(table[f"cat_{k}"]))
    return pd.DataFrame(table).astype({name: "category" for name in table if name.startswith("cat")})


def pytabkit(X, **parameters):
    """Numbers and one-hots, scaled and clipped, and the codes that are left of categories."""
    pytest.importorskip("pytabkit")
    import torch
    from pytabkit.models.data.conversion import ToDictDatasetConverter
    from pytabkit.models.data.data import DictDataset, TensorInfo
    from pytabkit.models.nn_models.models import PreprocessingFactory

    table = ToDictDatasetConverter(cat_features=[dtype == "category" for dtype in X.dtypes]).fit_transform(X)
    tensors = table.tensors | {"y": torch.zeros(len(X), 1, dtype=torch.long)}
    infos = table.tensor_infos | {"y": TensorInfo(cat_sizes=[2])}
    factory = PreprocessingFactory(tfms=["one_hot", "median_center", "robust_scale", "smooth_clip"], **parameters)
    out = factory.create(infos).fit_transform(DictDataset(tensors, infos))[1].tensors
    return out["x_cont"].numpy(), out["x_cat"].numpy() if "x_cat" in out else None


def ours(X, **parameters):
    encoder = TableEncoder(**parameters)
    table = encoder.fit_transform(X)
    plain = encoder.n_numbers_ + encoder.n_plain_
    return RobustScaleSmoothClip().fit_transform(table[:, :plain]), table[:, plain:]


def test_realmlps_numbers():
    """All one-hot, as in RealMLP-TD-S, and up to 8 categories, as in RealMLP-TD: pytabkit counts what is missing."""
    with np.load(STORED) as stored:
        np.testing.assert_allclose(ours(realmlp_table())[0], stored["all_one_hot"], rtol=0, atol=1e-6)
        plain, codes = ours(realmlp_table(), max_one_hot=8)
        np.testing.assert_allclose(plain, stored["all_one_hot"][:, : plain.shape[1]], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(codes, stored["codes"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [40, 41, 1003])
def test_pytabkit_live(n):
    X = realmlp_table(n)
    np.testing.assert_allclose(ours(X)[0], pytabkit(X)[0], rtol=0, atol=2e-6)
    for found, expected in zip(ours(X, max_one_hot=8), pytabkit(X, max_one_hot_cat_size=9), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


# ---- tables -----------------------------------------------------------------------------------------------------

ROWS = [["b", 1, None, True], ["a", 2, 0.5, False], [None, 3, -1.5, True], ["c", 4, 2.0, None], ["", 5, None, True]]
NAMES = ["text", "whole", "real", "flag"]
# whole, real | indicator of real | "", a, b, c | flag
ENCODED = [
    [1, NAN, 1, 0, 0, 1, 0, -1],
    [2, 0.5, 0, 0, 1, 0, 0, 1],
    [3, -1.5, 0, 0, 0, 0, 0, -1],
    [4, 2.0, 0, 0, 0, 0, 1, 0],
    [5, NAN, 1, 1, 0, 0, 0, -1],
]


def as_frame(**dtypes):
    return pd.DataFrame(ROWS, columns=NAMES).astype({"whole": "int64", "real": "float64"} | dtypes)


def as_polars(rows=ROWS):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(rows, schema=NAMES, orient="row")


TABLES = {
    "list": lambda: ROWS,
    "objects": lambda: np.array(ROWS, dtype=object),
    "pandas": as_frame,
    "pandas, category": lambda: as_frame(text="category", flag="category"),
    "pandas, nullable": lambda: as_frame(text="string", whole="Int64", real="Float64", flag="boolean"),
    "polars": as_polars,
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_all_tables_alike(make):
    encoder = TableEncoder().fit(make())
    out = encoder.transform(make())
    np.testing.assert_array_equal(out, ENCODED)
    assert out.dtype == np.float64
    assert (encoder.n_numbers_, encoder.n_plain_, encoder.category_counts_) == (2, 6, ())
    assert [list(found) for found in encoder.categories_] == [["", "a", "b", "c"], [False, True]]
    assert encoder.is_categorical_.tolist() == [True, False, False, True] and encoder.n_features_in_ == 4
    named = hasattr(encoder, "feature_names_in_")
    text, whole, real, flag = NAMES if named else ["x0", "x1", "x2", "x3"]
    names = encoder.get_feature_names_out()
    one_hots = [f"{text}_", f"{text}_a", f"{text}_b", f"{text}_c", f"{flag}_False"]
    assert names.tolist() == [whole, real, f"missingindicator_{real}", *one_hots]
    assert named == hasattr(make(), "columns")
    for again in (pickle.loads(pickle.dumps(encoder)), clone(encoder).fit(make())):
        np.testing.assert_array_equal(again.transform(make()), out)


@pytest.mark.parametrize("fitted", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("given", TABLES.values(), ids=TABLES)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:X has feature names")
def test_a_model_of_one_table_reads_another(fitted, given):
    np.testing.assert_array_equal(TableEncoder().fit(fitted()).transform(given()), ENCODED)


def test_codes():
    encoder = TableEncoder(max_one_hot=2).fit(as_frame())
    assert (encoder.n_numbers_, encoder.n_plain_, encoder.category_counts_) == (2, 2, (4,))
    expected = np.array(ENCODED)[:, [0, 1, 2, 7, 3]]
    expected[:, -1] = [3, 2, 0, 4, 1]
    np.testing.assert_array_equal(encoder.transform(as_frame()), expected)
    assert encoder.get_feature_names_out().tolist() == ["whole", "real", "missingindicator_real", "flag_False", "text"]
    new = as_frame()
    new["text"] = "never seen"
    assert (encoder.transform(new)[:, -1] == 0).all()
    np.testing.assert_array_equal(encoder.set_params(max_one_hot=None).transform(as_frame()), expected)  # until a fit
    assert TableEncoder(max_one_hot=4).fit(as_frame()).category_counts_ == ()
    assert TableEncoder(max_one_hot=0).fit(as_frame()).category_counts_ == (4, 2)


@pytest.mark.parametrize(
    ("values", "encoded"),
    [
        (["a", None], {"a": [1], None: [-1], "new": [-1]}),
        (["b", "a"], {"a": [1], "b": [-1], None: [0], "new": [0]}),
        (["b", "c", "a"], {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1], None: [0, 0, 0], "new": [0, 0, 0]}),
        ([None, None], {"new": [], None: []}),
    ],
    ids=["one", "two", "three", "none"],
)
def test_one_hot(values, encoded):
    encoder = TableEncoder([0]).fit([[value] for value in values])
    for value, expected in encoded.items():
        np.testing.assert_array_equal(encoder.transform([[value]]), [expected])


def test_frames_out():
    out = TableEncoder().set_output(transform="pandas").fit_transform(as_frame().set_index("whole", drop=False))
    assert isinstance(out, pd.DataFrame) and list(out.index) == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(out, ENCODED)


def test_sparse():
    X = scipy.sparse.random(30, 4, 0.3, random_state=0, format="csr")
    for container in (scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array):
        np.testing.assert_array_equal(TableEncoder().fit_transform(container(X)), X.toarray())
    np.testing.assert_array_equal(
        TableEncoder([1], max_one_hot=0).fit_transform(X), TableEncoder([1], max_one_hot=0).fit_transform(X.toarray())
    )


def test_without_pandas():
    """Where neither pandas nor polars can be imported."""
    code = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name in ("pandas", "polars"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from fastmlp import TableEncoder
print(TableEncoder().fit_transform([["a", 1.5], ["b", None]]).tolist())
"""
    assert run_code(code).strip() == "[[1.5, 0.0, 1.0], [nan, 1.0, -1.0]]"


# ---- columns ----------------------------------------------------------------------------------------------------

INTERVALS = pd.cut([0.5, 1.5, 2.5], [0, 1, 2, 3])
OF_CATEGORIES = {
    "category": pd.Series(["a", "b", "a"], dtype="category"),
    "category of numbers": pd.Series([2, 1, 2], dtype="category"),
    "intervals": pd.Series(INTERVALS),
    "text": pd.Series(["a", "b", "a"], dtype="str"),
    "nullable text": pd.Series(["a", None, "a"], dtype="string"),
    "objects": pd.Series([1, 2.5, None], dtype=object),
    "bool": pd.Series([True, False, True]),
    "nullable bool": pd.Series([True, None, True], dtype="boolean"),
}
OF_NUMBERS = {
    **{
        dtype: pd.Series([1, 2, 3], dtype=dtype) for dtype in ("int8", "uint64", "float32", "Int64", "UInt8", "Float32")
    },
    "nothing": pd.Series([NAN, NAN, NAN]),
    "sparse": pd.Series([0.0, 0.0, 2.0], dtype=pd.SparseDtype("float64", 0.0)),
}


@pytest.mark.parametrize("column", OF_CATEGORIES.values(), ids=OF_CATEGORIES)
def test_pandas_categories(column):
    assert TableEncoder().fit(column.to_frame("a")).is_categorical_.tolist() == [True]


@pytest.mark.parametrize("column", OF_NUMBERS.values(), ids=OF_NUMBERS)
def test_pandas_numbers(column):
    out = TableEncoder().fit_transform(column.to_frame("a"))
    np.testing.assert_array_equal(out[:, 0], column.to_numpy(np.float64))


def test_pandas_arrow():
    pa = pytest.importorskip("pyarrow")
    decimals = [decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]
    frame = pd.DataFrame(
        {
            "whole": pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
            "decimal": pd.Series(decimals, dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
            "text": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
            "flag": pd.Series([True, None, False], dtype=pd.ArrowDtype(pa.bool_())),
        }
    )
    expected = [[1, 1.5, 0, 0, 1, -1], [NAN, NAN, 1, 1, 0, 0], [3, -2.25, 0, 0, -1, 1]]
    np.testing.assert_array_equal(TableEncoder().fit_transform(frame), expected)


def test_polars_dtypes():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "whole": pl.Series([1, None, 3], dtype=pl.UInt8),
            "real": pl.Series([1.5, NAN, None], dtype=pl.Float32),
            "decimal": pl.Series(["1.5", None, "-2.25"]).cast(pl.Decimal(5, 2)),
            "category": pl.Series(["b", None, "a"], dtype=pl.Categorical),
            "enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["b", "unused", "a"])),
            "text": ["x", "y", ""],
            "flag": [True, None, False],
        }
    )
    encoder = TableEncoder(max_one_hot=2).fit(frame)
    expected = [
        [1, 1.5, 1.5, 0, 0, 0, -1, -1, -1, 2],
        [NAN, NAN, NAN, 1, 1, 1, 0, 0, 0, 3],
        [3, NAN, -2.25, 0, 1, 0, 1, 1, 1, 1],
    ]
    np.testing.assert_array_equal(encoder.transform(frame), expected)
    out = encoder.set_output(transform="polars").transform(frame)
    assert out.columns == encoder.get_feature_names_out().tolist()


def test_array_dtypes():
    for dtype in (int, np.float32, np.float16, np.longdouble):
        np.testing.assert_array_equal(TableEncoder().fit_transform(np.eye(3, dtype=dtype)), np.eye(3))
    for array in (np.array([["a"], ["b"]]), np.array([[b"a"], [b"b"]]), np.array([[True], [False]])[::-1]):
        np.testing.assert_array_equal(TableEncoder().fit_transform(array), [[1], [-1]])
    bools = TableEncoder().fit(np.array([[np.True_], [np.False_]], dtype=object))
    assert bools.categories_[0].tolist() == [False, True]
    objects = np.array(
        [[1, True, 1, None], [2.5, False, "a", None], [decimal.Decimal(3), None, None, NAN]], dtype=object
    )
    assert TableEncoder().fit(objects).is_categorical_.tolist() == [False, True, True, False]


def test_categories_of_numbers():
    """They are compared as numbers, sorted as such, and no digit is lost."""
    large = 2**60
    encoder = TableEncoder([0], max_one_hot=0).fit([[large], [large + 1], [10], [9]])
    assert encoder.categories_[0].tolist() == [9, 10, large, large + 1]
    np.testing.assert_array_equal(encoder.transform([[large + 1], [large], [9.0], [NAN], [7]])[:, 0], [4, 3, 1, 0, 0])
    nullable = pd.DataFrame({"a": pd.Series([large, large + 1, None], dtype="Int64")})
    np.testing.assert_array_equal(TableEncoder([0], max_one_hot=0).fit_transform(nullable)[:, 0], [1, 2, 0])


def test_mixed_types_are_text():
    encoder = TableEncoder(max_one_hot=0).fit([[1], ["a"], [None], [True], [2.5], [""], [NAN]])
    assert encoder.categories_[0].tolist() == ["", "1", "2.5", "True", "a"]
    rows = [["1"], [1], [True], ["a"], [None], [NAN], ["None"], [2.5]]
    np.testing.assert_array_equal(encoder.transform(rows)[:, 0], [2, 2, 4, 5, 0, 0, 0, 3])


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.just(NAN), st.text("ab1", max_size=2)
)


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=12))
def test_codes_name_their_category(column):
    encoder = TableEncoder([0], max_one_hot=0)
    codes = encoder.fit_transform([[value] for value in column]).astype(int)
    if codes.shape[1] == 0:
        assert all(value is None or value != value for value in column)
        return
    categories = encoder.categories_[0]
    mixed = any(isinstance(value, str) for value in column)
    for value, code in zip(column, codes[:, 0], strict=True):
        if value is None or value != value:
            assert code == 0
        else:
            assert categories[code - 1] == (str(value) if mixed else value)
    assert list(categories) == sorted(set(categories)) and set(codes[:, 0]) - {0} == set(range(1, len(categories) + 1))


def test_ids():
    """A column that differs in every row."""
    ids = [[f"id{i:03}"] for i in range(200)]
    np.testing.assert_array_equal(TableEncoder().fit_transform(ids), np.eye(200))
    np.testing.assert_array_equal(TableEncoder(max_one_hot=8).fit_transform(ids)[:, 0], np.arange(1, 201))


def test_missing_only_later():
    """A number that is missing in transform, where none was in fit: NaN, and no indicator."""
    encoder = TableEncoder().fit([[1.0, NAN], [2.0, 3.0]])
    np.testing.assert_array_equal(encoder.transform([[None, 1.0]]), [[NAN, 1, 0]])
    assert encoder.missing_features_.tolist() == [1]


# ---- which columns, and errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "features", [[0, 2], [True, False, True], ["a", "c"], np.array(["c", "a"]), pd.Index(["a", "c"])]
)
def test_categorical_features(features):
    frame = pd.DataFrame([[1, 2, 3], [4, 5, 6]], columns=list("abc"))
    encoder = TableEncoder(features).fit(frame)
    assert encoder.is_categorical_.tolist() == [True, False, True]
    assert encoder.get_feature_names_out().tolist() == ["b", "a_1", "c_3"]
    for none in (None, [], [False] * 3):
        np.testing.assert_array_equal(TableEncoder(none).fit_transform(frame), frame)


@pytest.mark.parametrize("features", [[1.5], ["a", "z"], [3], [-1], [True], np.array(["a", 1], dtype=object)])
@pytest.mark.parametrize("X", [np.eye(3), pd.DataFrame(np.eye(3), columns=list("abc"))], ids=["array", "frame"])
def test_errors_are_those_of_hist_gradient_boosting(features, X):
    messages = []
    for estimator in (TableEncoder(features), HistGradientBoostingClassifier(categorical_features=features)):
        with pytest.raises(ValueError) as error:
            estimator.fit(X, [0, 1, 1])
        messages.append(str(error.value).replace(" a item", " an item"))  # "a" is scikit-learn 1.7's
    assert messages[0] == messages[1]


@pytest.mark.parametrize("parameters", [{"categorical_features": "all"}, {"max_one_hot": -1}, {"max_one_hot": 2.5}])
def test_parameters(parameters):
    with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter of TableEncoder must be"):
        TableEncoder(**parameters).fit(np.eye(3))


DAY = datetime.date(2020, 2, 29)
REFUSED = {
    "datetime": (pd.Series([DAY, DAY], dtype="datetime64[ns]"), "dates or times"),
    "zone": (pd.Series([DAY, DAY], dtype="datetime64[ns, UTC]"), "dates or times"),
    "timedelta": (pd.Series([1, 2], dtype="timedelta64[ns]"), "dates or times"),
    "period": (pd.Series(pd.period_range("2020", periods=2, freq="M")), "dates or times"),
    "dates": (pd.Series([DAY, None], dtype=object), "dates or times"),
    "category of dates": (pd.Series([DAY, DAY], dtype="category"), "dates or times"),
    "lists": (pd.Series([[1], [2, 3]], dtype=object), "nested"),
    "dicts": (pd.Series([{}, {"a": 1}], dtype=object), "nested"),
    "tuples": (pd.Series([(1, 2), None], dtype=object), "nested"),
    "arrays": (pd.Series([np.eye(2), np.eye(3)], dtype=object), "nested"),
    "complex": (pd.Series([1j, 2]), "complex"),
    "complex objects": (pd.Series([1j, "a"], dtype=object), "complex"),
}


@pytest.mark.parametrize("features", ["from_dtype", None, ["a"]], ids=str)
@pytest.mark.parametrize(("column", "what"), REFUSED.values(), ids=REFUSED)
def test_refused_columns(column, what, features):
    frame = pd.DataFrame({"whole": [1, 2], "a": column})
    with pytest.raises(ValueError, match=f"Column 'a' holds .*{what}.*: turn it into .* first"):
        TableEncoder(features).fit(frame)
    encoder = TableEncoder(features).fit(frame.assign(a=[1, 2]))
    with pytest.raises(ValueError, match=f"Column 'a' holds .*{what}"):
        encoder.transform(frame)


@pytest.mark.parametrize("dtype", ["Date", "Datetime", "Duration", "Time", "List", "Array", "Struct"])
def test_refused_polars_columns(dtype):
    pl = pytest.importorskip("polars")
    dtypes = {"List": pl.List(pl.Int8), "Array": pl.Array(pl.Int8, 2), "Struct": pl.Struct({"b": pl.Int8})}
    frame = pl.DataFrame({"a": pl.Series([None, None], dtype=dtypes.get(dtype, getattr(pl, dtype)))})
    for features in ("from_dtype", None, ["a"]):
        with pytest.raises(ValueError, match="Column 'a' holds"):
            TableEncoder(features).fit(frame)


def test_refused_arrays():
    with pytest.raises(ValueError, match="Column 0 holds dates or times"):
        TableEncoder().fit(np.array([["2020-01-01"]], dtype="datetime64[D]"))
    with pytest.raises(ValueError, match="Complex data not supported"):
        TableEncoder().fit(np.array([[1j]]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.longdouble, object])
@pytest.mark.parametrize("value", [np.inf, -np.inf, 10**400], ids=["inf", "-inf", "large"])
def test_infinity(value, dtype):
    X = np.array([[1.0], [2.0]], dtype=dtype)
    encoder = TableEncoder().fit(X)
    if dtype is object or abs(value) == np.inf:
        X[1] = value
    else:
        X = np.array([[1], [value]], dtype=object)
    for method in (encoder.transform, encoder.fit):
        with pytest.raises(ValueError, match="Input X contains infinity or a value too large for dtype.'float64'"):
            method(X)


def test_text_where_numbers_belong():
    numbers, text = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": ["1", "2"]})
    for encoder, X in [(TableEncoder().fit(numbers), text), (TableEncoder(None), text)]:
        with pytest.raises(ValueError, match="Column 'a' holds text where numbers belong"):
            encoder.transform(X) if hasattr(encoder, "n_features_in_") else encoder.fit(X)
    with pytest.raises(ValueError, match="Column 'a' held numbers in fit and holds text"):
        TableEncoder(["a"]).fit(numbers).transform(text)
    with pytest.raises(ValueError, match="Column 'a' held text in fit and holds numbers"):
        TableEncoder(["a"]).fit(text).transform(numbers)
    missing = pd.DataFrame({"a": [NAN]})  # as pandas reads an empty column, whatever it is to hold
    np.testing.assert_array_equal(TableEncoder().fit(text).transform(missing), [[0]])
    np.testing.assert_array_equal(TableEncoder().fit(numbers).transform(missing.astype(object)), [[NAN]])


@pytest.mark.parametrize("fitted", TABLES.values(), ids=TABLES)
def test_shape_and_names(fitted):
    encoder, X = TableEncoder().fit(fitted()), fitted()
    if isinstance(X, list):
        X = np.array(X, dtype=object)
    for method in (encoder.transform, TableEncoder().fit):
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\) .* required by TableEncoder"):
            method(X[:0])
    if not hasattr(X, "columns"):
        with pytest.raises(ValueError, match="X has 3 features, but TableEncoder is expecting 4 features as input"):
            encoder.transform(X[:, :3])
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
            encoder.transform(X[0])
        return
    with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
        encoder.transform(X[NAMES[::-1]])
    with pytest.raises(ValueError, match="Feature names seen at fit time, yet now missing:\n- flag"):
        encoder.transform(X[NAMES[:3]])
    with pytest.raises(ValueError, match=r"Found array with 0 feature\(s\)"):
        TableEncoder().fit(pd.DataFrame(index=[1, 2]))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        encoder.transform(np.array(ROWS, dtype=object))


def test_names_twice():
    with pytest.raises(ValueError, match=r"got more than once: \['a'\]"):
        TableEncoder().fit(pd.DataFrame([[1, 2, 3]], columns=list("aba")))


def test_names_that_are_numbers():
    """As in scikit-learn they are no names."""
    encoder = TableEncoder().fit(pd.DataFrame([["a", 1.5], ["b", 2.5]]))
    assert encoder.get_feature_names_out().tolist() == ["x1", "x0_a"] and not hasattr(encoder, "feature_names_in_")
    assert encoder.get_feature_names_out(["p", "q"]).tolist() == ["q", "p_a"]


# ---- RobustScaleSmoothClip --------------------------------------------------------------------------------------


def naive(x):
    """The formula for a column of ordinary numbers."""
    x = np.asarray(x, dtype=np.float64)
    q25, median, q75 = np.nanquantile(x, [0.25, 0.5, 0.75])
    range_ = np.nanmax(x) - np.nanmin(x)
    s = 1 / (q75 - q25) if q75 > q25 else 2 / range_ if range_ > 0 else 0
    z = (x - median) * s
    return z / np.sqrt(1 + (z / 3) ** 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 50, 2000])
def test_the_formula(n, dtype):
    rng = np.random.RandomState(n)
    X = np.column_stack([rng.randn(n), rng.standard_cauchy(n), rng.randint(3, size=n), rng.rand(n) < 0.1, np.ones(n)])
    X = np.where(rng.rand(*X.shape) < 0.2, NAN, X).astype(dtype)
    X[0] = 1
    out = RobustScaleSmoothClip().fit_transform(X)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, np.apply_along_axis(naive, 0, X), rtol=10 * np.finfo(dtype).eps, atol=1e-15)
    imputed = RobustScaleSmoothClip(impute=True).fit_transform(X)
    np.testing.assert_array_equal(imputed, np.where(np.isnan(X), 0, out))


def test_center_and_scale_are_those_of_robust_scaler():
    X = np.random.RandomState(0).randn(500, 3) * [1, 1e-5, 1e5] + [0, 3, -1]
    ours, theirs = RobustScaleSmoothClip().fit(X), RobustScaler().fit(X)
    np.testing.assert_allclose(ours.center_, theirs.center_, rtol=1e-13)
    np.testing.assert_allclose(ours.scale_, 1 / theirs.scale_, rtol=1e-13)
    z = theirs.transform(X)
    np.testing.assert_allclose(ours.transform(X), z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-9, atol=1e-13)


def test_a_column_of_nothing_and_one_of_the_same():
    X = np.array([[NAN, 3.0], [NAN, 3.0]])
    scaler = RobustScaleSmoothClip().fit(X)
    np.testing.assert_array_equal(scaler.transform(np.array([[NAN, 3.0], [5.0, -1e308]])), [[NAN, 0], [NAN, 0]])
    imputing = RobustScaleSmoothClip(impute=True).fit(X)
    np.testing.assert_array_equal(imputing.transform(np.array([[NAN, NAN], [5.0, 4.0]])), np.zeros((2, 2)))


LARGEST, SMALLEST = np.finfo(np.float64).max, 5e-324
EXTREME = {
    "large": [1e300, 2e300, 3e300, -4e300, 1.5e300],
    "largest": [LARGEST, -LARGEST, LARGEST, -LARGEST, 0],
    "range overflows": [LARGEST, -LARGEST, 1, 1, 1, 1, 1],
    "small": [1e-300, 2e-300, 3e-300, -4e-300, 1.5e-300],
    "subnormal": [1e-310, 2e-310, 3e-310, -4e-310, 1.5e-310],
    "smallest": [0, SMALLEST, 2 * SMALLEST, 3 * SMALLEST, 4 * SMALLEST],
    "one outlier": [0, 1e-300, 2e-300, 3e-300, LARGEST],
}


@pytest.mark.parametrize("column", EXTREME.values(), ids=EXTREME)
def test_extreme_columns(column):
    """No warning, as warnings are errors here; finite, in the order of the values."""
    X = np.array(column)[:, None]
    scaler = RobustScaleSmoothClip().fit(X)
    assert np.isfinite(scaler.center_).all() and np.isfinite(scaler.scale_).all()
    out = scaler.transform(np.sort(np.vstack([X, [[LARGEST], [-LARGEST], [0], [NAN]]]), axis=0))
    assert np.isfinite(out[:-1]).all() and np.isnan(out[-1]) and (np.diff(out[:-1, 0]) >= 0).all()
    assert (np.abs(out[:-1]) <= 3).all() and out[0] < 0 < out[-2]


def test_extreme_columns_are_scaled_too():
    """Whatever power of two a column is multiplied by."""
    X = np.random.RandomState(0).standard_cauchy((99, 1))
    expected = RobustScaleSmoothClip().fit_transform(X)
    for power in (-1000, -30, 30, 1000):
        np.testing.assert_allclose(RobustScaleSmoothClip().fit_transform(np.ldexp(X, power)), expected, rtol=1e-13)


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 3)), elements=st.floats(allow_infinity=False)))
def test_any_numbers(X):
    out = RobustScaleSmoothClip().fit_transform(X)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(X))
    assert (np.abs(out[~np.isnan(X)]) <= 3).all()
    assert np.isfinite(RobustScaleSmoothClip(impute=True).fit_transform(X)).all()


def test_memory_order_and_blocks():
    """Rows are worked on in blocks: no row depends on the others that are there, nor on where it lies."""
    X = np.random.RandomState(0).randn(5000, 30)
    scaler = RobustScaleSmoothClip().fit(X)
    out = scaler.transform(X)
    np.testing.assert_array_equal(np.vstack([scaler.transform(X[:1]), scaler.transform(X[1:])]), out)
    np.testing.assert_array_equal(RobustScaleSmoothClip().fit_transform(np.asfortranarray(X)), out)
    assert scaler.get_feature_names_out()[-1] == "x29"


def test_the_scaler_refuses():
    with pytest.raises(TypeError, match="Sparse data was passed"):
        RobustScaleSmoothClip().fit(scipy.sparse.eye(3, format="csr"))
    with pytest.raises(ValueError, match="infinity"):
        RobustScaleSmoothClip().fit([[np.inf]])
    with pytest.raises(ValueError, match="The 'impute' parameter of RobustScaleSmoothClip"):
        RobustScaleSmoothClip(impute="median").fit(np.eye(3))


def test_more_columns_than_memory_holds(monkeypatch):
    """An error names the column before there is no memory left."""
    monkeypatch.setattr("fastmlp.preprocessing.memory", lambda: 1e5)
    table = pd.DataFrame({"number": np.arange(200.0), "id": [f"{i:04}" for i in range(200)], "kind": ["a", "b"] * 100})
    encoder = TableEncoder().fit(table)
    with pytest.raises(MemoryError, match=r"matrix of 202 columns, 0 GB. Column 'id' has 200 categories: leave it out"):
        encoder.transform(table)
    assert TableEncoder(max_one_hot=8).fit_transform(table).shape == (200, 3)
    with pytest.raises(MemoryError, match="matrix of 100 columns, 0 GB.$"):
        TableEncoder().fit_transform(np.ones((200, 100)))
