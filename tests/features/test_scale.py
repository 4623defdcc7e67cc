"""What is said of numbers that were declared without their mean and standard deviation."""

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.scale import warn_of_raw_numbers
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.ranking import RankingModel

TIMES = 1.6e9 + np.arange(40.0)
LINE = r"^Feature 'time' is not standardised: its numbers are around 1\.6e\+09, with mean 0 and std 1\. Give it the col"

pytestmark = pytest.mark.filterwarnings("error")


def test_raw_times_are_said_to_be_not_standardised():
    with pytest.warns(UserWarning, match=LINE):
        warn_of_raw_numbers(FeatureSpec([NumericFeature("time")]), {"time": np.r_[TIMES, np.nan]})


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (NumericFeature("time", mean=1.6e9, std=12.0), TIMES),
        (NumericFeature("time", log=True), TIMES),
        (NumericFeature("time", boundaries=[1.6e9]), TIMES),
        (NumericFeature("time"), TIMES % 1000),
        (NumericFeature("time"), np.r_[np.zeros(9), 1e9]),
        (NumericFeature("time"), TIMES[:0]),
        (NumericFeature("other"), TIMES),
    ],
    ids=str,
)
def test_nothing_is_said_of_other_numbers(feature, values):
    warn_of_raw_numbers(FeatureSpec([feature]), {"time": values})


@pytest.mark.parametrize("form", ["dict", "dataset"])
def test_fit_says_it_once(form):
    model = RankingModel(
        [NumericFeature("time"), CategoricalFeature("a", vocabulary_size=2)], embedding_dim=2, hidden_units=()
    )
    model.compile()
    columns, labels = {"time": TIMES, "a": np.arange(40) % 2}, np.arange(40.0) % 2
    data = (columns, labels)
    if form == "dataset":
        data = (tf.data.Dataset.from_tensor_slices(data).batch(4),)
    with pytest.warns(UserWarning, match=LINE) as said:
        model.fit(*data, epochs=2, verbose=0)
    assert len(said) == 1
    model.fit(*data, verbose=0)


def test_prepare_says_it_once():
    rows = pa.table({"time": TIMES, "label": [0, 1] * 20})
    with pytest.warns(UserWarning, match=LINE) as said:
        prepare(rows, "label", "random", features=FeatureSpec([NumericFeature("time")]))
    assert len(said) == 1
