"""LossCurveDisplay: how a training went, drawn with matplotlib, which is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D


class LossCurveDisplay:
    """Loss of each epoch, in training and, where it is known, on the validation set, with the best epoch marked.

    `from_estimator` makes one of a fitted estimator. All parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : sequence of float
        Training loss of each epoch.
    validation_loss_curve : sequence of float, default=None
        Validation loss of each epoch; NaN, which leaves a gap, where there was none.
    best_iter : int, default=None
        The epoch whose weights were kept, counted from 1; None or 0 marks none.
    name : str, default=None
        What the legend calls the model.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The training loss.
    validation_line_ : matplotlib Line2D or None
        The validation loss.
    best_marker_ : matplotlib Line2D or None
        The best epoch, on the validation loss if there is one, else on the training loss.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores by the number of training samples.

    Examples
    --------
    >>> from fastmlp import LossCurveDisplay, MLPClassifier
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> small = MLPClassifier(10, random_state=0).fit(X / 16, y)                # doctest: +SKIP
    >>> large = MLPClassifier(100, random_state=0).fit(X / 16, y)               # doctest: +SKIP
    >>> display = LossCurveDisplay.from_estimator(small, name="10 units")       # doctest: +SKIP
    >>> LossCurveDisplay.from_estimator(large, name="100 units", ax=display.ax_)  # doctest: +SKIP
    """

    line_: Line2D
    validation_line_: Line2D | None
    best_marker_: Line2D | None
    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        loss_curve: Sequence[float],
        validation_loss_curve: Sequence[float] | None = None,
        best_iter: int | None = None,
        name: str | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.best_iter = best_iter
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        ax: Axes | None = None,
        name: str | None = None,
        log_scale: bool = False,
        line_kw: dict[str, Any] | None = None,
    ) -> LossCurveDisplay:
        """Draw the losses of a fitted estimator.

        Parameters
        ----------
        estimator : estimator instance
            A fitted multilayer perceptron, scikit-learn's too, trained by 'adam' or 'sgd', or RealMLP, the mean of
            whose networks is drawn, and the best epoch if there is one network; or a fitted pipeline that ends in one,
            or a search whose best estimator is either.
        ax : matplotlib Axes, default=None
            Where to draw, perhaps beside other models; None makes a new figure.
        name : str, default=None
            What the legend calls the model; None is the name of its class.
        log_scale : bool, default=False
            Whether to make the axis of losses logarithmic.
        line_kw : dict, default=None
            Keywords of matplotlib's `plot`, for both curves. The validation loss is always dashed.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If it has no `loss_curve_`, as after 'lbfgs'.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        model: Any = getattr(estimator, "best_estimator_", estimator)  # of a search
        if isinstance(model, Pipeline):
            model = model[-1]
        check_is_fitted(model)
        if not hasattr(model, "loss_curve_"):
            raise ValueError(
                f"{type(model).__name__} has no loss_curve_: multilayer perceptrons have one after solver='adam' or"
                " 'sgd', but not after 'lbfgs'."
            )
        best = getattr(model, "best_iters_", [getattr(model, "best_iter_", None)])
        display = cls(
            loss_curve=model.loss_curve_,
            validation_loss_curve=getattr(model, "validation_loss_curve_", None),
            best_iter=best[0] if len(best) == 1 else None,
            name=type(model).__name__ if name is None else name,
        )
        return display.plot(ax, log_scale=log_scale, line_kw=line_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        log_scale: bool = False,
        line_kw: dict[str, Any] | None = None,
    ) -> LossCurveDisplay:
        """Draw the losses: the training loss as a line, the validation loss dashed, both in one colour.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw, perhaps beside other models; None makes a new figure.
        name : str, default=None
            What the legend calls the model; None is the `name` of the display.
        log_scale : bool, default=False
            Whether to make the axis of losses logarithmic.
        line_kw : dict, default=None
            Keywords of matplotlib's `plot`, for both curves. The validation loss is always dashed.

        Returns
        -------
        display : LossCurveDisplay
            This one.

        Raises
        ------
        ValueError
            If the two curves are not of one length, or `best_iter` is no epoch of theirs.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt
        from matplotlib.cbook import normalize_kwargs
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        best, n_epochs, validation = self.best_iter, len(self.loss_curve), self.validation_loss_curve
        if validation is not None and len(validation) != n_epochs:
            raise ValueError(
                f"validation_loss_curve must have a number for each epoch, got {len(validation)} for {n_epochs}."
            )
        if best and not 1 <= best <= n_epochs:
            raise ValueError(f"best_iter must be an epoch, from 1 to {n_epochs}, got {best}.")
        if ax is None:
            _, ax = plt.subplots()
            ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))

        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}: "
        epochs = range(1, n_epochs + 1)
        style: dict[str, Any] = {"marker": "." if n_epochs == 1 else None} | normalize_kwargs(line_kw or {}, Line2D)
        (self.line_,) = ax.plot(epochs, self.loss_curve, **style | {"label": f"{prefix}training"})
        self.validation_line_ = self.best_marker_ = None
        style["color"] = self.line_.get_color()
        if validation is not None:
            dashed = {"linestyle": "--", "label": f"{prefix}validation"}
            (self.validation_line_,) = ax.plot(epochs, validation, **style | dashed)
        if best:
            loss = (self.loss_curve if validation is None else validation)[best - 1]
            look: dict[str, Any] = {"color": style["color"], "markersize": 8, "markeredgecolor": "white", "zorder": 3}
            (self.best_marker_,) = ax.plot(best, loss, "o", label=f"{prefix}best epoch ({best})", **look)

        if log_scale:
            ax.set_yscale("log")
        ax.set(xlabel="Epoch", ylabel="Loss")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
