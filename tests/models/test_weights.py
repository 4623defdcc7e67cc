"""Files of models and of weights: any thread writes them; what cannot be loaded is said in one line."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nfm_tfrs import CategoricalFeature, load_model
from nfm_tfrs.models.ranking import RankingModel


def model(size=5):
    features = [CategoricalFeature(name, vocabulary_size=size) for name in ("user", "film")]
    return RankingModel(features, embedding_dim=2, hidden_units=())


@pytest.mark.parametrize("name", ["none.weights.h5", "none"])
def test_weights_that_are_not_there_are_named(tmp_path, name):
    with pytest.raises((FileNotFoundError, ValueError), match=rf"{name}") as caught:
        model().load_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_weights_are_one_line_with_the_files_name(tmp_path, name, damage):
    model().save_weights(tmp_path / name)
    path = tmp_path / name if name != "a" else tmp_path / "a.index"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"x" * 99)
    with pytest.raises(
        ValueError, match=r"a(\.\w+)* is damaged or holds weights of another model \(.+\)\. Give"
    ) as caught:
        model().load_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.weights.h5", "a"])
def test_weights_of_another_model_are_refused(tmp_path, name):
    model(7).save_weights(tmp_path / name)
    with pytest.raises(ValueError, match="is damaged or holds weights of another model"):
        model().load_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a"])
def test_any_thread_saves_and_loads_again_and_again(tmp_path, name):
    one = model()

    def work():
        for _ in range(2):
            if name == "a.keras":
                one.save(tmp_path / name)
                one.set_weights(load_model(tmp_path / name).get_weights())
            else:
                one.save_weights(tmp_path / name)
                one.load_weights(tmp_path / name)

    work()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
