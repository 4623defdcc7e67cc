"""Files that somebody else wrote: each value of what a file says is replaced by something that would run code."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from nfm_tfrs import AutoDis, CategoricalFeature, FeatureSpec, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import saved_metadata_pb2, saved_model_metadata
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.serial import DEPTH, LONGEST, check_known, only_known
from nfm_tfrs.runs.contents import read_contents
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import Best
from nfm_tfrs.trust import trusting

EVIL = """
import pathlib

pathlib.Path(__file__).with_name("ran").touch()


class Evil:
    from_config = __init__ = print
"""
YESTERDAY = Path(__file__).parents[1] / "yesterday"
HOSTILE = {
    "class": {"module": "evil_module", "class_name": "Evil", "registered_name": "evil>Evil", "config": {}},
    "imported": {"module": "subprocess", "class_name": "Popen", "registered_name": None, "config": {"args": "true"}},
    "function": {"module": "os", "class_name": "function", "registered_name": "system", "config": "system"},
    "function of a registered name": {
        "module": "os",
        "class_name": "function",
        "registered_name": "nfm_tfrs>RankingModel",
        "config": "system",
    },
    "registered by its class's name": {
        "module": "evil_module",
        "class_name": "nfm_tfrs>RankingModel",
        "registered_name": None,
        "config": {},
    },
    "type": {
        "module": "evil_module",
        "class_name": "__typespec__",
        "spec_name": "Evil",
        "registered_name": "x",
        "config": [],
    },
    "code": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    "layer": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {"name": "l", "function": ["4wEAAAA=", None, None], "function_type": "lambda", "arguments": {}},
    },
    "operation": {
        "module": "keras.src.layers.core.tf_op_layer",
        "class_name": "TFOpLambda",
        "registered_name": "TFOpLambda",
        "config": {"name": "io.write_file", "function": "io.write_file"},
    },
}


def paths(written, path=()):
    """The place of each value of JSON, lists and objects themselves too."""
    if path:
        yield path
    parts = written.items() if isinstance(written, dict) else enumerate(written) if isinstance(written, list) else ()
    for key, value in parts:
        yield from paths(value, (*path, key))


def additions(written):
    """The place of a new key in each object, and of one named as where the values of a column are."""
    yield from (
        (*path, key) for path in [(), *paths(written)] for key in ("new", "vocabulary") if is_object(written, path)
    )


def is_object(written, path):
    for key in path:
        written = written[key]
    return isinstance(written, dict)


def replaced(written, path, value):
    found = json.loads(json.dumps(written))
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A small model's file."""
    path = tmp_path_factory.mktemp("honest") / "model.keras"
    features = [CategoricalFeature("user", vocabulary_size=3), NumericFeature("price")]
    model = RankingModel(features, interaction=["fm"], embedding_dim=2, hidden_units=(2,), task="regression")
    model.compile("adam")
    model.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SavedModel that version 0.1.0 wrote."""
    out = tmp_path_factory.mktemp("yesterday")
    shutil.unpack_archive(YESTERDAY / "nfm.zip", out)
    return out / "saved_model"


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A folder on the path with a module whose import is seen; returns whether it was imported."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: (tmp_path / "ran").exists() or "evil_module" in sys.modules
    sys.modules.pop("evil_module", None)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def config_of(path):
    return json.loads(members(path)["config.json"])


def written_again(path, out, **changed):
    parts = {**members(path), **changed}
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return out


def refusal(opened):
    """What is said where something is refused; None where it opens."""
    try:
        opened()
    except (ValueError, LookupError) as error:
        said = str(error.args[0])
        assert "\n" not in said
        return said
    return None


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_value_of_a_model_runs_code(honest, evil, tmp_path, kind):
    config = config_of(honest)
    config["compile_config"].pop("vocabulary", None)
    refused = 0
    for path in [*paths(config), *additions(config)]:
        hostile = replaced(config, path, HOSTILE[kind])
        file = written_again(honest, tmp_path / "hostile.keras", **{"config.json": json.dumps(hostile)})
        said = refusal(lambda file=file: load_model(file))
        assert not evil(), path
        refused += said is not None
        assert said is None or "hostile.keras" in said
    assert refused > 0.9 * len([*paths(config), *additions(config)])


@pytest.mark.parametrize("name", ["polyglot.h5", "polyglot"])
def test_a_file_that_keras_would_open_as_hdf5_is_refused(honest, tmp_path, name):
    """Behind the weights of an HDF5 file a whole `.keras` file may lie: each sees its own."""
    with h5py.File(tmp_path / name, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
    with (tmp_path / name).open("ab") as file:
        file.write(honest.read_bytes())
    assert zipfile.is_zipfile(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is not opened: a model's file ends in \.keras\. Rename it, or give"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("kind", HOSTILE)
def test_keras_itself_looks_up_nothing_that_is_not_known(evil, kind):
    """What would hold if a config could get past the check beforehand."""
    with only_known(), pytest.raises((ValueError, TypeError, KeyError)):
        keras.saving.deserialize_keras_object({"config": None, "any": HOSTILE[kind]})
    assert not evil()


def test_in_a_trusted_file_keras_looks_anything_up(evil):
    with trusting(True), only_known():
        keras.saving.deserialize_keras_object(HOSTILE["class"])
    assert evil()


def with_config(folder, out, config):
    """The folder with another config of its model."""
    shutil.copytree(folder, out, dirs_exist_ok=True)
    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((folder / "keras_metadata.pb").read_bytes())
    for node in metadata.nodes:
        if node.node_path == "root":
            node.metadata = json.dumps(config)
    (out / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
    return out


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_value_of_a_saved_model_runs_code(folder, evil, tmp_path, kind):
    config = saved_model_metadata(folder)
    del config["config"]["features"]["features"][1:]
    refused = 0
    for path in paths(config):
        hostile = with_config(folder, tmp_path / "hostile", replaced(config, path, HOSTILE[kind]))
        said = refusal(lambda hostile=hostile: load_model(hostile))
        assert not evil(), path
        refused += said is not None
        assert said is None or "hostile is not opened" in said
    assert refused > 0.9 * len(list(paths(config)))


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("config", "features", "features", 0, "vocabulary_size"), 10**9, "vocabulary_size"),
        (("config", "hidden_units"), [10**5, 10**5], "hidden_units"),
    ],
)
def test_a_folder_whose_config_declares_more_than_it_holds_is_refused(folder, tmp_path, path, value, name):
    large = with_config(folder, tmp_path / "large", replaced(saved_model_metadata(folder), path, value))
    with pytest.raises(ValueError, match=f"large is not opened: its config declares .* weights at {name}, and it"):
        load_model(large)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda weights: (weights / "variables.data-00000-of-00001").write_bytes(b""), "weights are cut short"),
        (lambda weights: (weights / "variables.index").unlink(), "variables"),
        (lambda weights: (weights / "variables.index").write_bytes(b"x" * 99), "sstable"),
    ],
    ids=["cut", "without", "other"],
)
def test_a_folder_with_damaged_weights_is_refused(folder, tmp_path, damage, line):
    shutil.copytree(folder, tmp_path / "damaged")
    damage(tmp_path / "damaged" / "variables")
    with pytest.raises(ValueError, match=f"damaged is not opened: .*{line}") as caught:
        load_model(tmp_path / "damaged")
    assert "\n" not in str(caught.value)


def test_a_folder_that_lacks_weights_of_its_model_is_refused(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(other / "variables")
    tf.train.Checkpoint(bias=tf.Variable([0.0])).write(str(other / "variables" / "variables"))
    with pytest.raises(ValueError, match=r"other is not opened: variables lacks weights of the model"):
        load_model(other)


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_value_of_a_best_json_runs_code(evil, tmp_path, kind):
    written = json.loads((YESTERDAY / "best_of_ratings.json").read_text())
    written["config"]["features"]["features"] = written["config"]["features"]["features"][:1]
    refused = 0
    for path in paths(written):
        (tmp_path / "best.json").write_text(json.dumps(replaced(written, path, HOSTILE[kind])))

        def opened():
            Best.from_file(tmp_path / "best.json").recipe.check_arguments()

        refused += refusal(opened) is not None
        assert not evil(), path
    assert refused > len(list(paths(written))) / 4  # numbers and notes of a search are free


def test_what_is_trusted_is_imported(evil, honest, tmp_path):
    """What the tests above would see if code ran."""
    hostile = replaced(config_of(honest), ("config", "interaction"), [HOSTILE["class"]])
    file = written_again(honest, tmp_path / "hostile.keras", **{"config.json": json.dumps(hostile)})
    with pytest.raises(Exception):  # noqa: B017, PT011 - the module holds no block
        load_model(file, trust=True)
    assert evil()


def test_a_config_may_be_nested_so_deeply():
    nested = []
    for _ in range(DEPTH + 1):
        nested = [nested]
    with pytest.raises(ValueError, match=f"A config is nested more than {DEPTH} levels deep"):
        check_known(nested)
    with trusting(True):
        check_known(nested)
    check_known(nested[0])


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"name": "x" * (LONGEST + 1)}, r"holds a text of 10,001 characters \(xxx"),
        ({"x" * (LONGEST + 1): 1}, r"holds a text of 10,001 characters \(xxx"),
        ({"seed": -(2**64)}, "holds a whole number of more than 64 bits"),
    ],
)
def test_names_and_numbers_of_a_config_are_bounded(config, line):
    with pytest.raises(ValueError, match=line):
        check_known([config])
    check_known({"vocabulary": ["x" * (LONGEST + 1)], "seed": 2**64 - 1, "name": "x" * LONGEST})


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("config", "features", "features", 0, "vocabulary_size"), 10**9, "vocabulary_size"),
        (("config", "embedding_dim"), 10**9, "embedding_dim"),
        (("config", "hidden_units"), [10**5, 10**5], "hidden_units"),
        (("config",), {"embedding_dim": 10**6, "hidden_units": [10**6]}, "a layer"),
    ],
)
def test_a_config_that_declares_more_than_the_file_holds_is_refused(honest, tmp_path, path, value, name):
    hostile = replaced(config_of(honest), path, value)
    file = written_again(honest, tmp_path / "large.keras", **{"config.json": json.dumps(hostile)})
    with pytest.raises(
        ValueError, match=f"large.keras is not opened: its config declares .* weights at {name}, and it"
    ):
        load_model(file)


def number(at, **arguments):
    return {"type": "numeric", "name": f"n{at}", **arguments}


FILM = {"type": "categorical", "name": "film", "vocabulary_size": 1}
SEEN = {**FILM, "type": "multi_categorical", "name": "seen", "embedding_name": "film", "target": "film"}
SEEN |= {"combiner": "attention"}
AUTODIS = {"name": "autodis", "meta_embeddings": 1024}


@pytest.mark.parametrize(
    ("features", "config"),
    [
        ([number(at, encoder=AUTODIS) for at in range(1000)], {"embedding_dim": 1}),
        ([FILM, {**SEEN, "attention": {"units": [10**6]}}], {"embedding_dim": 1000}),
        ([FILM, {**SEEN, "attention": {"positions": True}, "max_length": 10**5}], {"embedding_dim": 10**4}),
        ([{**FILM, "embedding_dim": 500_000}], {"embedding_dim": 400_000}),
        (
            [
                number(0, encoder="buckets", boundaries=list(range(100_000))),
                *(number(at, encoder="buckets", boundaries=[0]) for at in range(1, 2001)),
            ],
            {"embedding_dim": 16},
        ),
        ([number(at) for at in range(2000)], {"embedding_dim": 20, "number_encoder": "autodis"}),
        ([FILM, {**SEEN, "combiner": "mean"}], {"embedding_dim": 10**5, "history_combiner": "attention"}),
        ([FILM], {"embedding_dim": 1, "members": 10**4, "member_dim": 10**4}),
    ],
    ids=["autodis", "attention", "positions", "projection", "buckets", "number_encoder", "history_combiner", "members"],
)
def test_weights_that_are_products_of_what_a_config_declares_are_counted(honest, tmp_path, features, config):
    written = config_of(honest)
    written["config"] |= {**config, "features": {"features": features}}
    file = written_again(honest, tmp_path / "large.keras", **{"config.json": json.dumps(written)})
    with zipfile.ZipFile(file, "a") as archive:  # as large as it must be to unpack so far
        archive.writestr("more", np.random.default_rng(0).bytes(2**18))
    with pytest.raises(ValueError, match=r"large\.keras is not opened: its config declares .* at features, and"):
        read_contents(file)


def test_a_table_in_proportion_to_its_weights_opens(tmp_path):
    features = [CategoricalFeature("user", vocabulary_size=300_000), CategoricalFeature("film", vocabulary_size=3)]
    model = RankingModel(features, embedding_dim=4, hidden_units=())
    model.save(tmp_path / "large.keras")
    assert load_model(tmp_path / "large.keras").count_params() == model.count_params()


def test_free_ids_are_places_and_no_sizes(tmp_path):
    feature = CategoricalFeature("a", vocabulary=list(range(1300)), free_ids=[1200, 1250])
    RankingModel([feature, NumericFeature("b")], embedding_dim=1, hidden_units=()).save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").features["a"] == feature


def test_values_and_factors_of_features_are_no_sizes(tmp_path):
    features = [
        NumericFeature("seconds", mean=1_600_000_000, std=5_000_000, encoder=AutoDis(skip=1_000_000), fill=2_000_000),
        MultiCategoricalFeature("seen", vocabulary_size=3, max_length=2_000_000),
    ]
    RankingModel(features, embedding_dim=2, hidden_units=()).save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").features == FeatureSpec(features)


def test_a_file_that_unpacks_to_far_more_is_refused(honest, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members(honest).items():
            archive.writestr(name, data)
        archive.writestr("zeros", bytes(10_000_000))
    with pytest.raises(ValueError, match=r"packed\.keras is not a saved model, .* bytes unpack to 10,"):
        load_model(tmp_path / "packed.keras")


def with_weights(honest, out, change):
    """The file with its weights changed."""
    weights = out.with_suffix(".h5")
    weights.write_bytes(members(honest)["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        change(file)
    return written_again(honest, out, **{"model.weights.h5": weights.read_bytes()})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda file: file.update({"other": h5py.ExternalLink("other.h5", "/")}), "has a link at 'other'"),
        (lambda file: file.update({"other": h5py.SoftLink("/layers")}), "has a link at 'other'"),
        (lambda file: file.create_dataset("x", (9,), "u1", external=[("o", 0, 9)]), "a part of another file at 'x'"),
        (lambda file: file.create_dataset("x", (10**10,), "f4"), "declares more than it holds"),
    ],
    ids=["external", "soft", "raw", "sparse"],
)
def test_weights_that_name_other_files_or_declare_what_is_not_there_are_refused(honest, tmp_path, change, line):
    file = with_weights(honest, tmp_path / "links.keras", change)
    with pytest.raises(ValueError, match=f"links.keras is not a saved model, .*{line}"):
        load_model(file)


def test_groups_that_are_in_many_others_are_looked_at_once(honest, tmp_path):
    """Forty groups, each of which holds the one before it twice: as a tree of names a million million."""

    def doubled(file):
        last = file.create_group("leaf")
        for number in range(40):
            group = file.create_group(f"group{number}")
            group["a"] = group["b"] = last
            last = group

    assert load_model(with_weights(honest, tmp_path / "doubled.keras", doubled)).built


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 25).round(2).tolist())
def test_a_flipped_byte_is_refused_in_one_line(honest, tmp_path, share):
    data = bytearray(honest.read_bytes())
    data[int(share * len(data))] ^= 0x5A
    (tmp_path / "flipped.keras").write_bytes(data)
    said = refusal(lambda: load_model(tmp_path / "flipped.keras"))
    assert said is not None
    assert "flipped.keras" in said


@pytest.mark.parametrize("damage", [lambda data: data[:20] + b"\xff" * 20 + data[40:], lambda data: b"\x01" + data[1:]])
def test_a_member_that_does_not_unpack_is_refused_in_one_line(honest, tmp_path, damage):
    out = tmp_path / "changed.keras"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members(honest).items():
            archive.writestr(name, data)
        place = archive.getinfo("config.json")
    whole = bytearray(out.read_bytes())
    start = place.header_offset + 30 + len(place.filename)
    whole[start : start + place.compress_size] = damage(bytes(whole[start : start + place.compress_size]))
    out.write_bytes(whole)

    assert "changed.keras is not a saved model, or it is cut short" in refusal(lambda: load_model(out))


@pytest.mark.parametrize("name", ["x\n" * 10_000, "blok", None, 2])
def test_a_block_that_is_none_is_refused_in_one_line_with_the_files_name(honest, tmp_path, name):
    config = config_of(honest)
    config["config"]["interaction"] = {"name": name, "config": {}, "provider": "nfm-tfrs 0.1.0"}

    line = refusal(
        lambda: load_model(written_again(honest, tmp_path / "changed.keras", **{"config.json": json.dumps(config)}))
    )

    assert "changed.keras is not opened" in line
    assert len(line) < 400


def test_a_vocabulary_that_is_no_list_is_refused_in_one_line(honest, tmp_path):
    config = config_of(honest)
    config["config"]["features"]["features"][0]["vocabulary"] = 5

    line = refusal(
        lambda: load_model(written_again(honest, tmp_path / "changed.keras", **{"config.json": json.dumps(config)}))
    )

    assert "changed.keras is not opened" in line


@pytest.mark.parametrize(("name", "value"), [("hidden_units", 8), ("bottom_units", 8), ("interaction", "fm")])
def test_a_config_of_more_parts_than_a_model_has_is_refused_before_they_are_made(honest, tmp_path, name, value):
    config = config_of(honest)
    config["config"][name] = [value] * 2000

    line = refusal(
        lambda: load_model(written_again(honest, tmp_path / "changed.keras", **{"config.json": json.dumps(config)}))
    )

    assert f"changed.keras is not opened: its config declares 2,000 parts at {name}, and 50 are the most" in line
