"""LightGBM and logistic regression on the rows and features that the models have, their sizes chosen on validation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.features.encoder import IDS, NUMBERS, bag_key

Scores = Callable[[str], np.ndarray]  # the logits of a part by its name


def boosted(data: Prepared, seed: int, leaves: tuple[int, ...] = (7, 15, 31, 63), **settings: Any) -> Scores:
    """LightGBM: categories as such, numbers as they are, bags as shares of each value.

    Args:
        data: The rows; leaves are chosen, and trees are stopped, by the AUC of the validation rows.
        seed: LightGBM's.
        leaves: Numbers of leaves to choose from.
        **settings: Further ones of LightGBM.
    """
    import lightgbm as lgb

    categories = list(range(len(data.features.single)))
    given = {part: dense(data, part) for part in ("train", "valid")}
    best: tuple[float, Any] = (0.0, None)
    for count in leaves:
        told = {"subsample": 0.9, "subsample_freq": 1, "colsample_bytree": 0.9} | settings
        model = lgb.LGBMClassifier(
            n_estimators=2000, learning_rate=0.05, num_leaves=count, random_state=seed, n_jobs=1, verbose=-1, **told
        )
        model.fit(
            given["train"],
            data.train.labels,
            eval_set=[(given["valid"], data.valid.labels)],
            eval_metric="auc",
            categorical_feature=categories or "auto",
            callbacks=[lgb.early_stopping(50, first_metric_only=True, verbose=False)],
        )
        score = metrics.auc(data.valid.labels, model.predict(given["valid"], raw_score=True))
        best = max(best, (score, model), key=lambda pair: pair[0])
    return lambda part: np.asarray(best[1].predict(dense(data, part), raw_score=True))


def logistic(data: Prepared) -> Scores:
    """scikit-learn's logistic regression on one-hot categories, shares of bags' values and standardised numbers.

    Args:
        data: The rows; the strength of its penalty is chosen by the AUC of the validation rows.
    """
    from sklearn.linear_model import LogisticRegression

    train, valid = sparse_rows(data, "train"), sparse_rows(data, "valid")
    models = [LogisticRegression(C=c, max_iter=2000).fit(train, data.train.labels) for c in (0.1, 0.3, 1, 3)]
    best = max(models, key=lambda model: metrics.auc(data.valid.labels, model.decision_function(valid)))
    return lambda part: np.asarray(best.decision_function(sparse_rows(data, part)))


def dense(data: Prepared, part: str) -> Any:
    """Returns the rows of a part by its name: ids, numbers, and of each bag the shares of its values."""
    columns = data.encoded[part].columns
    parts = [columns[IDS], columns[NUMBERS]]
    for bag in data.features.bags:
        values = columns[bag_key(bag.name)]
        rows, shares = _shares(values)
        found: np.ndarray = np.zeros([len(values.row_splits) - 1, bag.num_ids + 1])
        np.add.at(found, (rows, values.values - data.features.offsets[bag.name]), shares)
        parts.append(found)
    return np.hstack(parts)


def sparse_rows(data: Prepared, part: str) -> Any:
    """Returns the rows of a part by its name as a sparse matrix: ones for ids, shares for bags, numbers last."""
    from scipy import sparse

    columns, width = data.encoded[part].columns, data.features.num_rows
    ids = columns[IDS]
    splits = np.arange(0, ids.size + 1, ids.shape[1])
    matrix = sparse.csr_matrix((np.ones(ids.size), ids.ravel(), splits), (len(ids), width))
    for bag in data.features.bags:
        values = columns[bag_key(bag.name)]
        matrix += sparse.csr_matrix((_shares(values)[1], values.values, values.row_splits), (len(ids), width))
    return sparse.hstack([matrix, sparse.csr_matrix(np.nan_to_num(columns[NUMBERS]))]).tocsr()


def _shares(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of each value of a bag its row, and one over the number of values there."""
    lengths = np.diff(values.row_splits)
    rows: np.ndarray = np.repeat(np.arange(len(lengths)), lengths)
    return rows, 1 / lengths[rows]
