"""Which of the runs of a search are better together: a forward selection by the mean of their logits."""

from collections.abc import Sequence

import numpy as np

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.evidence import Objective
from nfm_tfrs.metrics.bootstrap import paired_bootstrap


def together(goal: Objective, valid: EncodedPart, logits: Sequence[np.ndarray], *, first: int, most: int) -> list[int]:
    """Returns the numbers of the runs whose mean is to be the model; one alone where that is no clear gain.

    The first run is given; each further one is that with which the mean of the logits is best, as long as it gets
    better. Then the mean is taken only if it is better than the first run by more than chance: the lower end of the
    paired bootstrap's interval of the gain is above 0. Both sides were chosen on these rows, the first run among all of
    them and the others step by step, so that either is a little worse on new rows; the step from one run to their mean
    holds better than the choice among runs does.

    Args:
        goal: The objective to judge by.
        valid: The rows to judge on.
        logits: What each run predicts for them, `[n]` each.
        first: The number of the run that would be the model alone.
        most: Runs that may be taken at most.

    Reference:
        Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004, section 2, without replacement.
    """

    def score(members: Sequence[int]) -> float:
        return goal.sign * _judged(goal.metric, valid, _mean(logits, members))

    chosen, best = [first], score([first])
    while len(chosen) < most:
        others = [number for number in range(len(logits)) if number not in chosen]
        scores = {number: score([*chosen, number]) for number in others}
        number = max(scores, key=lambda number: scores[number], default=first)
        if number == first or not scores[number] > best:
            break
        chosen, best = [*chosen, number], scores[number]
    if len(chosen) == 1:
        return chosen
    gain = paired_bootstrap(
        goal.metric, np.asarray(valid.labels), [_mean(logits, chosen)], [logits[first]], weights=valid.weights
    )
    ends = sorted((goal.sign * gain.low, goal.sign * gain.high))
    return chosen if ends[0] > 0 else [first]


def _mean(logits: Sequence[np.ndarray], members: Sequence[int]) -> np.ndarray:
    mean: np.ndarray = np.mean([logits[number] for number in members], axis=0, dtype=np.float64)
    return mean


def _judged(metric: str, valid: EncodedPart, logits: np.ndarray) -> float:
    if metric in ("auc", "log_loss"):
        judge = metrics.auc if metric == "auc" else metrics.log_loss
        return judge(np.asarray(valid.labels), logits, valid.weights)
    return metrics.evaluate_regression(valid.labels, logits, valid.weights)[metric]
