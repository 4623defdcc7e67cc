"""A model that goes on takes another rate, and keeps what its optimizer has learnt."""

import numpy as np
import pytest

from nfm_tfrs.keras_compat import keras
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.rate import set_rate
from nfm_tfrs.optimizers import named_optimizer


@pytest.mark.parametrize("rate", [0.1, keras.optimizers.schedules.CosineDecay(0.1, 3)], ids=["constant", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_the_rate_alone_is_another(film_features, film_rows, rate, dtype):
    keras.utils.set_random_seed(0)
    model = NFM(film_features, embedding_dim=2, hidden_units=(4,), dtype=dtype)
    model.compile(named_optimizer("lazyadam", rate))
    columns, labels = film_rows(32)
    model.fit(columns, labels, batch_size=8, epochs=1, verbose=0)
    before = [variable.numpy() for variable in inner_optimizer(model.optimizer).variables]
    scale = [variable.numpy() for variable in model.scale_state.values()]
    weights = [variable.numpy() for variable in model.trainable_variables]

    set_rate(model, 0.0)

    after = inner_optimizer(model.optimizer)
    assert float(after.learning_rate) == 0.0
    for one, other in zip(before, after.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    assert scale == [variable.numpy() for variable in model.scale_state.values()]
    assert len(scale) == (2 if dtype == "mixed_float16" else 0)
    model.fit(columns, labels, batch_size=8, epochs=1, verbose=0)
    for one, other in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_a_rate_below_zero_is_refused(film_features):
    model = NFM(film_features)
    model.compile()
    with pytest.raises(ValueError, match=r"^rate must be .*; received -1\."):
        set_rate(model, -1)
