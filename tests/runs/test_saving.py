import json
import zipfile

import numpy as np
import pytest

import tfrs_registry
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.runs.saving import load_model
from tfrs_registry import ComponentSpec, get_block

NAMES = ["nfm", "half", "plugin", "module", "task", "inferred", "encoded"]
REPORTED = ["nfm", "module", "task"]  # also saved as a SavedModel, which takes seconds
PAIR = [CategoricalFeature("user", vocabulary_size=6), CategoricalFeature("city", vocabulary=["Rome", "Oslo"])]

PLUGIN = """
from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.keras_compat import tf
from tfrs_registry import ComponentSpec


class FieldSum(InteractionBlock):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, input_shape):
        self.shift = self.add_weight("shift", [input_shape[-1]])
        super().build(input_shape)

    def call(self, embeddings, mask=None):
        return self.scale * tf.reduce_sum(embeddings, axis=1) + self.shift

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class Unregistered(FieldSum):
    pass


FIELD_SUM = ComponentSpec(name="field_sum", target="acme_blocks:FieldSum", summary="The sum of the fields.")
"""

RICH = [
    *PAIR,
    MultiCategoricalFeature("genres", vocabulary=["a", "b", "c"], weights="genre_weights"),
    MultiCategoricalFeature("history", vocabulary_size=6, embedding_name="user", combiner=None, max_length=3),
    NumericFeature("price", mean=1.0, std=2.0, log=True),
    NumericFeature("age", boundaries=[18.0, 65.0]),
    CategoricalFeature("device", num_hash_buckets=5),
]


def rich_rows(count=60):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 4, count)
    columns = {
        "user": tf.constant(rng.integers(-1, 7, count)),
        "city": tf.constant(rng.choice(["Rome", "Oslo", "Paris", ""], count)),
        "genres": tf.RaggedTensor.from_row_lengths(tf.constant(rng.choice(["a", "b", "x"], lengths.sum())), lengths),
        "genre_weights": tf.RaggedTensor.from_row_lengths(tf.constant(rng.random(lengths.sum()), tf.float32), lengths),
        "history": tf.RaggedTensor.from_row_lengths(tf.constant(rng.integers(0, 6, lengths.sum())), lengths),
        "price": tf.constant(np.where(rng.random(count) < 0.3, np.nan, rng.lognormal(size=count)), tf.float32),
        "age": tf.constant(rng.uniform(0, 90, count), tf.float32),
        "device": tf.constant(rng.integers(0, 99, count)),
    }
    return columns, tf.constant(rng.integers(0, 2, count), tf.float32)


def trained(model, columns, labels, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(0.05))
    model.fit(tf.data.Dataset.from_tensors((columns, labels)), epochs=3, verbose=0)
    return model


def clicks_task():
    return tfrs.tasks.Ranking(
        loss=keras.losses.BinaryFocalCrossentropy(gamma=1.5, from_logits=True, reduction="none"),
        metrics=[keras.metrics.AUC(name="roc", from_logits=True)],
        name="binary",  # a name of the package's own tasks makes it none of them
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of saved models, the rows they were trained on, and what each says about them."""
    folder = tmp_path_factory.mktemp("saved")
    site = folder / "site"
    metadata = site / "acme_blocks-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-blocks\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[tfrs_registry.blocks]\nfield_sum = acme_blocks:FIELD_SUM\n")
    (site / "acme_blocks.py").write_text(PLUGIN)
    columns, labels = rich_rows()
    encoded = FeatureEncoder(FeatureSpec(RICH))(columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        tfrs_registry.refresh()
        from acme_blocks import Unregistered

        keras.utils.set_random_seed(0)
        tail = {"embedding_dim": 4, "hidden_units": (5,)}
        models = {
            "nfm": NFM(RICH, **tail),
            "half": NFM(RICH, dtype="mixed_float16", **tail),
            "plugin": RankingModel(RICH, interaction={"name": "field_sum", "config": {"scale": 2.0}}, **tail),
            "module": RankingModel(RICH, interaction=Unregistered(scale=3.0), **tail),
            "task": RankingModel(RICH, task=clicks_task(), numeric="bottom_mlp", **tail),
            "inferred": RankingModel(**tail),
        }
        for name, model in models.items():
            trained(model, {c: columns[c] for c in ("user", "city", "age")} if name == "inferred" else columns, labels)
            model.save(folder / f"{name}.keras")
            np.save(folder / f"{name}.npy", model(columns).numpy())
            np.savez(folder / f"{name}.npz", *[variable.numpy() for variable in model.optimizer.variables])
        models["encoded"] = trained(NFM(RICH, **tail), encoded, labels)
        np.save(folder / "encoded.npy", models["encoded"](columns).numpy())
        np.savez(folder / "encoded.npz", *[variable.numpy() for variable in models["encoded"].optimizer.variables])
        models["encoded"].save(folder / "encoded.keras")
        models["encoded"].save(folder / "encoded")
        for name in REPORTED:
            models[name].save(folder / name)
        models["nfm"].save_weights(folder / "nfm.weights.h5")
        models["nfm"].save_weights(folder / "checkpoint" / "nfm")
        (folder / "nfm.json").write_text(json.dumps(models["nfm"].get_config()))
        rows = tf.data.Dataset.from_tensors((columns, labels))
        reports = {
            name: model.evaluate(rows, return_dict=True, verbose=0)
            for name, model in models.items()
            if name in REPORTED
        }
        (folder / "reports.json").write_text(json.dumps(reports))
        models["nfm"].fit(rows, verbose=0)  # after it was saved
        np.save(folder / "nfm_later.npy", models["nfm"].embedding.table.numpy())
    tfrs_registry.refresh()
    return folder


# Everything that opens a model in a fresh process, in one: TensorFlow takes long to import.
FRESH = """
import json, sys
import numpy as np
from pathlib import Path

import nfm_tfrs
from nfm_tfrs import NFM, RankingModel, load_model

folder, tests = Path(FOLDER), Path(TESTS)
found = {}

def error_of(open):
    try:
        open()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None

for name in ("plugin", "module"):
    found["missing " + name] = error_of(lambda: load_model(folder / f"{name}.keras", trust=name == "module"))
sys.path.insert(0, str(folder / "site"))
import tfrs_registry
tfrs_registry.refresh()

import importlib.util
spec = importlib.util.spec_from_file_location("rows", tests)
rows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rows)
columns, labels = rows.rich_rows()

from nfm_tfrs.keras_compat import tf
data = tf.data.Dataset.from_tensors((columns, labels))
for name in ("nfm", "half", "module", "plugin", "task", "inferred", "encoded"):
    if name == "module":
        found["not trusted"] = [error_of(lambda: load_model(path)) for path in (folder / "module.keras", folder / name)]
    model = load_model(folder / f"{name}.keras", trust=name == "module")
    stored = zip(model.optimizer.variables, np.load(folder / f"{name}.npz").values(), strict=True)
    found[name] = {
        "type": type(model).__name__,
        "equal": bool(np.array_equal(model(columns).numpy(), np.load(folder / f"{name}.npy"))),
        "optimizer": [bool(np.array_equal(variable.numpy(), value)) for variable, value in stored],
        "optimizer type": type(getattr(model.optimizer, "inner_optimizer", model.optimizer)).__name__,
    }
    if name in ("nfm", "module", "task"):
        found["report " + name] = model.evaluate(data, return_dict=True, verbose=0)
    if name == "nfm":
        rebuilt = NFM.from_config(json.loads((folder / "nfm.json").read_text()))
        for weights in ("nfm.weights.h5", "checkpoint/nfm"):
            rebuilt.embedding.table.assign(tf.zeros_like(rebuilt.embedding.table))
            rebuilt.load_weights(folder / weights)
            found[weights] = bool(np.array_equal(rebuilt(columns).numpy(), np.load(folder / "nfm.npy")))
for name in ("nfm", "module", "task", "encoded"):
    model = load_model(folder / name, trust=name == "module")
    # It takes what the model was called with last before it was saved.
    batch = nfm_tfrs.FeatureEncoder(nfm_tfrs.FeatureSpec(rows.RICH))(columns) if name == "encoded" else columns
    if name != "encoded":
        found["SavedModel report " + name] = model.evaluate(data, return_dict=True, verbose=0)
    found["SavedModel " + name] = float(np.abs(model(batch).numpy() - np.load(folder / f"{name}.npy")).max())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def opened(saved, run_python):
    """What a fresh process found in the folder."""
    script = FRESH.replace("FOLDER", repr(str(saved))).replace("TESTS", repr(__file__))
    return json.loads(run_python(script).stdout.splitlines()[-1])


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NAMES)
def test_a_keras_file_opens_to_the_same_bits(opened, name):
    assert opened[name]["equal"]


@pytest.mark.parametrize("name", NAMES)
def test_the_optimizer_goes_on_where_it_was(opened, name):
    assert len(opened[name]["optimizer"]) > 5
    assert all(opened[name]["optimizer"])
    assert opened[name]["optimizer type"] == "Adam"


@pytest.mark.parametrize("name", ["nfm", "half", "encoded"])
def test_a_face_opens_as_itself(opened, name):
    assert opened[name]["type"] == "NFM"


@pytest.mark.parametrize("path", ["nfm.weights.h5", "checkpoint/nfm"])
def test_weights_alone_restore_the_same_bits(opened, path):
    assert opened[path]


@pytest.mark.parametrize("name", [*REPORTED, "encoded"])
def test_a_saved_model_opens_within_1e_6(opened, name):
    assert opened[f"SavedModel {name}"] <= 1e-6


@pytest.mark.parametrize("kind", ["report", "SavedModel report"])
@pytest.mark.parametrize("name", REPORTED)
def test_an_opened_model_reports_as_the_saved_one_did(opened, saved, kind, name):
    expected = json.loads((saved / "reports.json").read_text())[name]
    assert set(expected) >= ({"roc"} if name == "task" else {"auc", "log_loss"})
    assert opened[f"{kind} {name}"] == pytest.approx(expected, rel=1e-5)


def test_a_missing_plugin_is_named_by_the_package_that_brought_it(opened):
    kind, message = opened["missing plugin"]
    assert kind == "UnknownComponentError"
    assert "The model's block 'field_sum' is not installed. Install acme-blocks 1.2, which it came with." in message


def test_a_class_that_nobody_registered_is_refused_unless_the_file_is_trusted(opened):
    for kind, message in opened["not trusted"]:
        assert kind == "ValueError"
        assert "names acme_blocks.Unregistered, which is not registered in this process, offered by" in message
        assert "trust=True (--trust)" in message
        assert "\n" not in message


def test_a_missing_module_is_named(opened):
    kind, message = opened["missing module"]
    assert kind == "ModuleNotFoundError"
    assert "module.keras needs the module 'acme_blocks', which is not installed. Install the package" in message


# --- in this process -------------------------------------------------------------------------------------------------


def test_training_goes_on_as_if_it_had_not_been_interrupted(saved):
    columns, labels = rich_rows()
    model = load_model(saved / "nfm.keras")
    before = model.embedding.table.numpy()
    model.fit(tf.data.Dataset.from_tensors((columns, labels)), verbose=0)
    expected = np.load(saved / "nfm_later.npy")
    moved = np.abs(expected - before).max()
    assert moved > 1e-3
    assert np.abs(model.embedding.table.numpy() - expected).max() < 2 * moved  # dropout differs


def test_a_registered_block_of_this_process_says_that_it_must_be_registered(tmp_path):
    registry = tfrs_registry.blocks
    tfrs_registry.blocks.register(
        ComponentSpec(name="local_pairs", target="nfm_tfrs.blocks.base:InteractionBlock", summary="For this test.")
    )
    try:
        config = RankingModel(PAIR, interaction="bi_interaction").get_config()
        config["interaction"] = {"name": "local_pairs", "config": {}, "provider": registry.provider("local_pairs")}
    finally:
        registry._local.pop("local_pairs")
    with pytest.raises(tfrs_registry.UnknownComponentError, match="'local_pairs' is not installed"):
        RankingModel.from_config(config)


def test_a_class_that_keras_knows_needs_no_module(tmp_path):
    source = "@keras.utils.register_keras_serializable('tests')\nclass Known(BiInteraction):\n    pass"
    namespace = {"__name__": "nowhere", "keras": keras, "BiInteraction": BiInteraction}
    exec(source, namespace)  # as in a notebook, or a README
    model = RankingModel(PAIR, interaction=namespace["Known"]())
    model.save(tmp_path / "known.keras")
    assert type(load_model(tmp_path / "known.keras").interaction) is namespace["Known"]


def test_compile_false_leaves_the_optimizer_out(saved):
    assert load_model(saved / "nfm.keras", compile=False).optimizer is None


def test_a_loaded_model_can_be_saved_again(saved, tmp_path):
    columns, _ = rich_rows()
    load_model(saved / "nfm.keras").save(tmp_path / "again.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "again.keras")(columns), np.load(saved / "nfm.npy"))


def test_a_model_that_was_never_compiled_or_called_can_be_saved(tmp_path):
    model = RankingModel(PAIR)
    model.save(tmp_path / "new.keras")
    columns = {"user": np.array([1, 2]), "city": np.array(["Rome", "x"])}
    np.testing.assert_array_equal(load_model(tmp_path / "new.keras")(columns), model(columns))


def test_the_file_names_its_blocks(saved):
    with zipfile.ZipFile(saved / "plugin.keras") as archive:
        config = json.loads(archive.read("config.json"))["config"]
    assert config["interaction"]["name"] == "field_sum"
    assert config["interaction"]["provider"] == "acme-blocks 1.2"
    assert config["interaction"]["config"]["scale"] == 2.0
    assert "dtype" not in config["interaction"]["config"]
    assert get_block("bi_interaction").name.startswith("bi_interaction")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no saved model at .*nothing.keras. Check the path"):
        load_model(tmp_path / "nothing.keras")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_cut_short_is_refused(saved, tmp_path, share):
    whole = (saved / "nfm.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut.keras is not a saved model, or it is cut short .* Give a whole .keras"):
        load_model(tmp_path / "cut.keras")


def test_a_zip_that_is_no_model_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"other.keras is not a saved model"):
        load_model(tmp_path / "other.keras")


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a saved model: it has no saved_model.pb. Give a .keras file"):
        load_model(tmp_path)


def test_a_path_may_be_a_string(saved):
    assert type(load_model(str(saved / "inferred.keras"))).__name__ == "RankingModel"
