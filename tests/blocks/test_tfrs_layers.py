"""Our blocks against the interaction layers of TensorFlow Recommenders with the same weights."""

import numpy as np
import pytest

from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.blocks.inner_product import InnerProduct
from nfm_tfrs.keras_compat import tf, tfrs

FIELDS, DIM, LAYERS = 4, 3, 3


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).uniform(-0.8, 0.8, [6, FIELDS, DIM]).astype(np.float32)


def randomise(layer):
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(rng.uniform(-0.8, 0.8, variable.shape))


@pytest.mark.parametrize(("kind", "projection_dim"), [("matrix", None), ("low_rank", 2)])
def test_cross_is_tfrs(embeddings, kind, projection_dim):
    ours = Cross(LAYERS, kind, rank=projection_dim or 1)
    ours(embeddings)
    randomise(ours)
    first = x = tf.reshape(embeddings, [-1, FIELDS * DIM])
    for n in range(LAYERS):
        theirs = tfrs.layers.dcn.Cross(projection_dim)
        theirs(first, x)
        if kind == "matrix":
            theirs._dense.set_weights([ours._kernels[n], ours._biases[n]])
        else:
            # Their names are the other way round: W = U Vᵀ takes x through V first, in the paper and in ours.
            theirs._dense_u.set_weights([ours._v[n]])
            theirs._dense_v.set_weights([ours._u[n], ours._biases[n]])
        x = theirs(first, x)
    np.testing.assert_allclose(ours(embeddings), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("self_interaction", [False, True])
def test_inner_product_is_tfrs_in_the_order_of_pairs(embeddings, self_interaction):
    ours = InnerProduct(self_interaction)(embeddings)
    theirs = tfrs.layers.feature_interaction.DotInteraction(self_interaction)(tf.unstack(embeddings, axis=1))
    # Theirs are what is below the diagonal, it included or not, row by row: (1, 0), (2, 0), (2, 1), …
    rows, columns = np.tril_indices(FIELDS, 0 if self_interaction else -1)
    products = np.zeros([len(embeddings), FIELDS, FIELDS])
    products[:, rows, columns] = theirs
    expected = [products[:, j, i] for i in range(FIELDS) for j in range(i + 1, FIELDS)]
    expected += [products[:, i, i] for i in range(FIELDS)] if self_interaction else []
    np.testing.assert_allclose(ours, np.stack(expected, axis=1), rtol=0, atol=1e-5)
