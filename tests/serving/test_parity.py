"""An export that does not answer as its model is refused."""

import numpy as np
import pytest

from nfm_tfrs.serving import check_parity
from nfm_tfrs.serving.parity import Parity, float32_twin


def test_every_signature_is_held_against_the_model_on_all_rows_one_and_none(model, served, rows):
    parity = check_parity(model, served, rows)

    assert list(parity.differences) == [
        f"{name} of {many}{user}"
        for sizes in (("64 rows", "1 row", "0 rows"), ("40 rows",))  # drawn, and given
        for many in sizes
        for name, user in (
            *(("serving_default", ""), ("examples", "")),
            *(("rank", ", user 0"), ("rank", ", user 1")),
        )
    ]
    assert parity.largest < 1e-5
    assert str(parity).startswith("largest difference ")


def test_another_model_than_the_exports_is_refused(make, served, rows):
    other = make()
    other.embedding.table.assign_add(other.embedding.table * 1e-3)

    with pytest.raises(ValueError, match=r"does not answer as the model: .*; at most 1e-05 is right"):
        check_parity(other, served, rows)


def test_a_difference_of_one_signature_is_enough(model, served, rows, monkeypatch):
    from nfm_tfrs.serving.runtime import SavedModel

    honest = SavedModel.run

    def dishonest(self, name, arrays):
        found = honest(self, name, arrays)
        return {key: value + (1e-3 if name == "rank" else 0) for key, value in found.items()}

    monkeypatch.setattr(SavedModel, "run", dishonest)
    with pytest.raises(ValueError, match="in rank of"):
        check_parity(model, served, rows)


def test_a_difference_of_twice_the_bound_is_refused(model, served, rows, monkeypatch):
    from nfm_tfrs.serving import parity
    from nfm_tfrs.serving.runtime import SavedModel

    honest = SavedModel.run
    ordinary = parity.drawn_rows(model.features).slice(2)  # not the huge number, whose last bits are all there is
    monkeypatch.setattr(parity, "drawn_rows", lambda features: ordinary)
    for more in (0.5e-5, 2e-5):
        monkeypatch.setattr(
            SavedModel, "run", lambda *given, more=more: {key: one + more for key, one in honest(*given).items()}
        )
        if more > parity.LARGEST:
            with pytest.raises(ValueError, match="does not answer as the model"):
                check_parity(model, served)
        else:
            assert check_parity(model, served).largest == pytest.approx(more, rel=0.2)


def test_nan_is_a_difference():
    assert np.isnan(Parity({"a": 0.0, "b": float("nan")}).largest)


def test_rows_without_a_column_are_refused(model, served, rows):
    with pytest.raises(ValueError, match="price"):
        check_parity(model, served, rows.drop_columns(["price"]))


def test_the_twin_of_half_precision_has_its_weights(make):
    half = make(dtype="mixed_bfloat16")
    twin = float32_twin(half)

    assert twin.compute_dtype == "float32"
    for one, other in zip(half.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float32_twin(twin) is twin
