"""What is shown of an estimator: its losses in a picture, and its HTML in a notebook."""

import numpy as np
import pytest
import sklearn.neural_network
from helpers import run_code
from models import LABELS, TARGETS, X, both_estimators, make
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp import LossCurveDisplay

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LIBRARIES = {"fastmlp": fastmlp, "sklearn": sklearn.neural_network}
libraries = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)

# ---- losses -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plt():
    """pyplot, which needs no screen; no figure is left."""
    pytest.importorskip("matplotlib").use("agg")
    import matplotlib.pyplot

    yield matplotlib.pyplot
    matplotlib.pyplot.close("all")


def validated(best_iter=2):
    """A model as after a fit with a validation set, of three epochs."""
    model = make("MLPClassifier").fit(X, LABELS)
    model.validation_loss_curve_, model.best_iter_ = [1.5, 1.25, 1.75], best_iter
    return model


def points(line):
    """The points of a line in a picture."""
    return np.transpose(line.get_data()).tolist()


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


@libraries
@both_estimators
def test_training_loss(plt, name, library):
    """One line over the epochs, counted from 1, in a figure of its own; what is not known is not drawn."""
    model = make(name, library).fit(X, TARGETS[name])
    display = LossCurveDisplay.from_estimator(model)
    assert points(display.line_) == [[i, loss] for i, loss in enumerate(model.loss_curve_, 1)]
    assert display.ax_.get_lines() == [display.line_] and legend(display) == [f"{name}: training"]
    assert display.validation_line_ is None and display.best_marker_ is None
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("Epoch", "Loss")
    assert display.figure_ is display.ax_.figure and plt.get_fignums() == [display.figure_.number]
    assert display.ax_.get_yscale() == "linear" and all(tick == int(tick) for tick in display.ax_.get_xticks())


def test_validation_loss_and_best_epoch(plt):
    """The validation loss is dashed and has the mark; the colour is that of the training loss."""
    display = LossCurveDisplay.from_estimator(validated(), name="mine")
    line, mark = display.validation_line_, display.best_marker_
    assert display.ax_.get_lines() == [display.line_, line, mark]
    assert points(line) == [[1, 1.5], [2, 1.25], [3, 1.75]] and points(mark) == [[2, 1.25]]
    assert display.line_.get_color() == line.get_color() == mark.get_color()
    assert display.line_.get_linestyle() == "-" and line.get_linestyle() == "--" and mark.get_marker() == "o"
    assert legend(display) == ["mine: training", "mine: validation", "mine: best epoch (2)"]


def test_mark_without_validation_loss(plt):
    """It stands on the training loss."""
    display = LossCurveDisplay(loss_curve=[3.0, 1.0, 2.0], best_iter=2).plot()
    assert points(display.best_marker_) == [[2, 1.0]] and legend(display) == ["training", "best epoch (2)"]


@pytest.mark.parametrize("best_iter", [None, 0])
def test_no_best_epoch(plt, best_iter):
    """Nothing is marked."""
    display = LossCurveDisplay.from_estimator(validated(best_iter))
    assert display.best_marker_ is None and len(display.ax_.get_lines()) == 2


def test_models_beside_each_other(plt):
    """In one picture, each in its colour and by its name."""
    first = LossCurveDisplay.from_estimator(validated(), name="a")
    second = LossCurveDisplay.from_estimator(validated(), name="b", ax=first.ax_)
    third = LossCurveDisplay(loss_curve=[1.0, 2.0], name="c")
    assert third.plot(first.ax_, name="d") is third
    assert first.ax_ is second.ax_ is third.ax_ and len(plt.get_fignums()) == 1
    assert len({display.line_.get_color() for display in (first, second, third)}) == 3
    assert second.validation_line_.get_color() == second.line_.get_color()
    parts = "training", "validation", "best epoch (2)"
    assert legend(third) == [f"{model}: {part}" for model in "ab" for part in parts] + ["d: training"]


def test_log_scale_and_keywords(plt):
    """Keywords go to both curves, under any of matplotlib's names, and may set the colour."""
    display = LossCurveDisplay.from_estimator(validated(), log_scale=True, line_kw={"c": "red", "lw": 3})
    assert display.ax_.get_yscale() == "log"
    for line in display.line_, display.validation_line_:
        assert (line.get_color(), line.get_linewidth()) == ("red", 3)
    assert display.best_marker_.get_color() == "red" and display.validation_line_.get_linestyle() == "--"
    assert LossCurveDisplay(loss_curve=[1.0]).plot(display.ax_).ax_.get_yscale() == "log"


def test_a_single_epoch_is_seen(plt):
    """As a point: a line through one point is none."""
    assert LossCurveDisplay(loss_curve=[1.0]).plot().line_.get_marker() == "."
    assert LossCurveDisplay(loss_curve=[1.0, 2.0]).plot().line_.get_marker() == "None"


def test_the_picture_can_be_drawn(plt, tmp_path):
    """A gap in the validation loss does no harm."""
    display = LossCurveDisplay(loss_curve=[3.0, 2.0, 1.0], validation_loss_curve=[np.nan, 2.0, 1.5], best_iter=3)
    display.plot().figure_.savefig(tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 1000


def test_pipelines_and_searches(plt):
    """Of a pipeline the last step, of a search the best estimator, also where that is a pipeline."""
    pipeline = make_pipeline(StandardScaler(), make("MLPClassifier"))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=2).fit(X, LABELS)
    for model, part in (pipeline.fit(X, LABELS), pipeline[-1]), (search, search.best_estimator_[-1]):
        display = LossCurveDisplay.from_estimator(model)
        assert display.line_.get_ydata().tolist() == part.loss_curve_ and display.name == "MLPClassifier"


@libraries
def test_not_fitted(plt, library):
    """scikit-learn's error, also of what holds the model; no figure is left."""
    model = make("MLPClassifier", library)
    for unfitted in model, make_pipeline(StandardScaler(), model), GridSearchCV(model, {"alpha": [1.0]}):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            LossCurveDisplay.from_estimator(unfitted)
    assert not plt.get_fignums()


@libraries
def test_no_loss_curve(plt, library):
    """'lbfgs' leaves none, nor do other estimators."""
    for model in make("MLPClassifier", library, solver="lbfgs"), LogisticRegression():
        with pytest.raises(ValueError, match=f"{type(model).__name__} has no loss_curve_: .* not after 'lbfgs'"):
            LossCurveDisplay.from_estimator(model.fit(X, LABELS))
    assert not plt.get_fignums()


def test_curves_that_do_not_fit(plt):
    """Are refused by name."""
    with pytest.raises(ValueError, match="validation_loss_curve must have a number for each epoch, got 1 for 2"):
        LossCurveDisplay(loss_curve=[2.0, 1.0], validation_loss_curve=[1.0]).plot()
    for best_iter in -1, 3:
        with pytest.raises(ValueError, match=f"best_iter must be an epoch, from 1 to 2, got {best_iter}"):
            LossCurveDisplay(loss_curve=[2.0, 1.0], best_iter=best_iter).plot()
    assert not plt.get_fignums()


def test_matplotlib_comes_last_and_may_be_missing():
    """It is not imported before something is drawn, nor scikit-learn with the package; without it an error tells."""
    run_code("""if True:
        import sys
        import fastmlp
        assert not {"sklearn", "matplotlib"} & sys.modules.keys()
        display = fastmlp.LossCurveDisplay(loss_curve=[2.0, 1.0])
        assert "matplotlib" not in sys.modules
        sys.modules["matplotlib"] = None
        for draw in display.plot, lambda: display.from_estimator(None):
            try:
                draw()
            except ImportError as error:
                assert "requires matplotlib" in str(error)
            else:
                raise AssertionError
    """)


@pytest.mark.parametrize("networks", [1, 2])
@pytest.mark.parametrize("name", ["RealMLPClassifier", "RealMLPRegressor"])
def test_realmlp(plt, name, networks):
    """Both curves, and the best epoch of a single network."""
    model = make(name, n_estimators=networks).fit(X, LABELS)
    display = LossCurveDisplay.from_estimator(model)
    assert points(display.line_) == [[i, loss] for i, loss in enumerate(model.loss_curve_, 1)]
    assert points(display.validation_line_) == [[i, loss] for i, loss in enumerate(model.validation_loss_curve_, 1)]
    best = model.best_iters_[0]
    expected = [[best, model.validation_loss_curve_[best - 1]]] if networks == 1 else None
    assert (display.best_marker_ and points(display.best_marker_)) == expected


# ---- HTML -------------------------------------------------------------------------------------------------------


@both_estimators
def test_html_links_to_the_documentation(name):
    """To scikit-learn's page of the class that it replaces, in a pipeline too, fitted or not."""
    link = make(name, sklearn.neural_network)._get_doc_link()
    assert link.startswith("https://scikit-learn.org/") and link.endswith(f"sklearn.neural_network.{name}.html")
    model = make(name)
    pipeline = make_pipeline(StandardScaler(), model)
    for shown in model, pipeline:
        assert f'href="{link}"' in shown._repr_html_()
        assert f'href="{link}"' in shown.fit(X, TARGETS[name])._repr_html_()


def test_a_class_of_others_has_no_link():
    """What they have made of it stands on no page of scikit-learn's."""

    class Mine(fastmlp.MLPClassifier):
        pass

    assert Mine()._get_doc_link() == "" and "MLPClassifier.html" not in Mine()._repr_html_()
