"""Rows scored by an export from Python."""

import numpy as np
import pandas as pd
import pytest

from nfm_tfrs.serving import load


@pytest.fixture(scope="module")
def scorer(served):
    return load(served)


def test_frames_tables_and_dicts_are_scored_alike(scorer, rows, wanted):
    listed = rows.to_pylist()
    expected = 1 / (1 + np.exp(-wanted))

    np.testing.assert_allclose(scorer.predict(rows), wanted, rtol=1e-5, atol=1e-5)
    frame = pd.DataFrame({name: pd.Series([row[name] for row in listed], dtype=object) for name in rows.column_names})
    for given in (rows, listed, frame):
        np.testing.assert_allclose(scorer.predict_proba(given), expected, rtol=1e-5, err_msg=type(given).__name__)


def test_a_row_alone_has_its_score(scorer, rows, wanted):
    found = [scorer.predict(row).item() for row in rows.to_pylist()]

    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_candidates_are_ranked_for_a_user(scorer, rows):
    user, *candidates = rows.to_pylist()
    once = scorer.signature.user
    alike = [{**one, **{name: user[name] for name in (*once, "w")}} for one in candidates]

    found = scorer.rank(user, candidates)

    np.testing.assert_allclose(found, scorer.predict_proba(alike), rtol=1e-5)


def test_optional_columns_may_be_left_out(scorer, rows):
    (row,) = rows.slice(5, 1).to_pylist()
    without = {name: value for name, value in row.items() if name not in ("zone", "tags")}

    assert scorer.predict(without) == pytest.approx(scorer.predict({**row, "zone": None, "tags": None}), rel=1e-6)


def test_a_row_may_lack_an_optional_column_of_a_model_without_bags(make, tmp_path):
    from nfm_tfrs.features.feature import CategoricalFeature

    features = [CategoricalFeature(name, vocabulary_size=9) for name in "abc"]
    make("nfm", features).export(tmp_path / "e", user=["a", "b"], optional=["b"])
    scorer = load(tmp_path / "e")

    expected = scorer.predict({"a": 1, "b": None, "c": 2})
    assert scorer.predict({"a": 1, "c": 2}) == pytest.approx(expected)
    ranked = scorer.rank({"a": 1}, {"c": np.array([2, 3])})
    assert ranked[0] == pytest.approx(scorer.predict_proba({"a": 1, "c": 2})[0])
    with pytest.raises(ValueError, match="The user is one row, a dict of values; received list"):
        scorer.rank([{"a": 1}], {"c": np.array([2, 3])})


def test_threads_score_at_once(scorer, rows):
    from concurrent.futures import ThreadPoolExecutor

    expected = scorer.predict(rows)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: scorer.predict(rows), range(12)))

    for one in found:
        np.testing.assert_array_equal(one, expected)


def test_a_regression_has_predictions_and_no_probabilities(make, tmp_path):
    model = make(task="regression")
    model.export(tmp_path / "e")
    scorer = load(tmp_path / "e")
    from nfm_tfrs.serving.drawn import drawn_rows
    from nfm_tfrs.training.evaluate import predict

    rows = drawn_rows(model.features, 10)
    np.testing.assert_allclose(scorer.predict(rows), predict(model, rows), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="A probability is of a binary model; this one predicts numbers"):
        scorer.predict_proba(rows)
    with pytest.raises(ValueError, match="This export has no signature rank"):
        scorer.rank({}, [])


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no export at"):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"is no export: it has no signature\.json"):
        load(tmp_path)


def test_a_damaged_export_is_one_line(served, tmp_path):
    (tmp_path / "signature.json").write_text((served / "signature.json").read_text())
    (tmp_path / "saved_model.pb").write_bytes((served / "saved_model.pb").read_bytes()[:500])

    with pytest.raises(ValueError, match=r"is not opened: .*\. Export the model anew\.$") as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_foreign_saved_model_is_one_line(served, tmp_path):
    from nfm_tfrs.keras_compat import tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "e"))
    (tmp_path / "e" / "signature.json").write_text((served / "signature.json").read_text())

    with pytest.raises(ValueError, match=r"is not opened: it lacks signature examples\. Export the model anew\.$"):
        load(tmp_path / "e")


@pytest.mark.parametrize("change", ['"inputs": []', '"outputs": [{"name": "prediction"}]'])
def test_a_signature_that_is_not_the_models_is_one_line(served, tmp_path, change):
    import json
    import shutil

    shutil.copytree(served, tmp_path / "e")
    path = tmp_path / "e" / "signature.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **json.loads("{" + change + "}")}))

    with pytest.raises(ValueError, match=r"is not opened: .*\. Export the model anew\.$") as raised:
        load(tmp_path / "e")
    assert "\n" not in str(raised.value)
