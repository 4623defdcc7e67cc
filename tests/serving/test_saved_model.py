"""SavedModels answer by the columns' names, wherever they are opened, as the model does."""

import json

import numpy as np
import pyarrow as pa
import pytest
from tensorflow.core.protobuf import saved_model_pb2

import nfm_tfrs
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.serving.parity import examples_of
from nfm_tfrs.serving.rows import arrays_of
from nfm_tfrs.serving.runtime import SavedModel
from nfm_tfrs.serving.signature import Signature
from tfrs_registry import list_models

SMALL = [
    CategoricalFeature("in", vocabulary=["ann", "bob"]),
    MultiCategoricalFeature("genre list", vocabulary=["drama", "comedy"], combiner="mean"),
    NumericFeature("price"),
]
# All that graphs of ours are made of. An operation beside them may be unknown to the TensorFlow of a serving binary:
# try `python benchmarks exports` before adding it here.
OPERATIONS = {
    "Abs",
    "AddV2",
    "All",
    "Any",
    "Assert",
    "AssignVariableOp",
    "BatchMatMulV2",
    "BiasAdd",
    "Bitcast",
    "BroadcastTo",
    "Cast",
    "ConcatV2",
    "Const",
    "Cumsum",
    "DisableCopyOnRead",
    "DivNoNan",
    "EnsureShape",
    "Equal",
    "Exp",
    "ExpandDims",
    "Fill",
    "GatherV2",
    "Greater",
    "GreaterEqual",
    "HashTableV2",
    "Identity",
    "IdentityN",
    "IsInf",
    "IsNan",
    "LeftShift",
    "Less",
    "Log",
    "Log1p",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "LookupTableFindV2",
    "LookupTableImportV2",
    "MatMul",
    "Max",
    "Maximum",
    "Mean",
    "MergeV2Checkpoints",
    "Minimum",
    "Mul",
    "Neg",
    "NoOp",
    "NotEqual",
    "OnesLike",
    "Pack",
    "ParseExampleV2",
    "Placeholder",
    "Prod",
    "RaggedGather",
    "RaggedRange",
    "RaggedTensorToTensor",
    "Range",
    "ReadVariableOp",
    "RealDiv",
    "Relu",
    "Reshape",
    "ResourceGather",
    "RestoreV2",
    "Rsqrt",
    "SaveV2",
    "ScatterNd",
    "Select",
    "SelectV2",
    "Shape",
    "ShardedFilename",
    "Sigmoid",
    "Sign",
    "Size",
    "Softmax",
    "SparseTensorDenseMatMul",
    "Split",
    "SplitV",
    "Sqrt",
    "Square",
    "SquaredDifference",
    "Squeeze",
    "StatefulPartitionedCall",
    "StaticRegexFullMatch",
    "StopGradient",
    "StridedSlice",
    "StringJoin",
    "StringToHashBucketFast",
    "Sub",
    "Sum",
    "Tile",
    "Transpose",
    "Unpack",
    "UnsortedSegmentMax",
    "UnsortedSegmentSum",
    "UpperBound",
    "VarHandleOp",
    "Where",
}


def written(folder):
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]


def run(folder, rows, name="serving_default"):
    signature = Signature.from_file(folder)
    return SavedModel(folder, signature).run(name, arrays_of(signature.inputs, rows))


def test_inputs_have_the_names_of_columns_even_of_words_of_python(served):
    inputs = written(served).signature_def["serving_default"].inputs
    loaded = tf.saved_model.load(str(served)).signatures

    assert {"in", "movie id", "C1-hash", "tags", "tags_lengths", "hist", "w"} < set(inputs)
    plain = {name for name in inputs if name.isidentifier() and name != "in"}
    assert plain < set(loaded["serving_default"].structured_input_signature[1])
    assert set(loaded) == {"serving_default", "examples", "rank"}


def test_outputs_are_the_models(served, rows, wanted):
    found = run(served, rows)

    np.testing.assert_allclose(found["logit"], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-wanted)), rtol=1e-5)


def test_examples_are_the_rows(served, rows, wanted, model):
    signature = Signature.from_file(served)

    found = SavedModel(served, signature).run("examples", {"examples": examples_of(signature.inputs, rows)})

    np.testing.assert_allclose(found["logit"], wanted, rtol=1e-5, atol=1e-5)


def test_an_optional_column_may_come_once(served, rows, model):
    missing = pa.nulls(rows.num_rows, pa.int64()), pa.nulls(rows.num_rows, pa.list_(pa.string()))
    without = rows
    for name, column in zip(("zone", "tags"), missing, strict=True):
        without = without.set_column(rows.schema.get_field_index(name), name, column)

    found = run(served, rows.drop_columns(["zone", "tags"]))["logit"]

    np.testing.assert_allclose(found, run(served, without)["logit"], rtol=1e-6)
    assert np.abs(found - run(served, rows)["logit"]).max() > 1e-3


def test_lengths_that_do_not_add_up_are_refused(served, rows):
    signature = Signature.from_file(served)
    arrays = arrays_of(signature.inputs, rows)
    changes = {
        "best_lengths do not add up": {"best_lengths": arrays["best_lengths"] + 1},
        "hist_lengths do not add up": {"w": arrays["w"][1:]},
        "zone has neither one row nor as many as others": {"zone": arrays["zone"][:3]},
        "price has not as many rows as the others": {"price": arrays["price"][:1], "dist": arrays["dist"][:1]},
    }
    negative = arrays["best_lengths"].copy()
    negative[:2] += [-negative[0] - 1, negative[0] + 1]
    changes["best_lengths do not add up "] = {"best_lengths": negative}

    runtime = SavedModel(served, signature)
    for line, change in changes.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=line.strip()):
            runtime.run("serving_default", {**arrays, **change})


def test_weights_that_are_not_shaped_as_their_bag_are_refused(make, tmp_path):
    features = [MultiCategoricalFeature("b", vocabulary_size=9, weights="w"), NumericFeature("price")]
    model = make("ranking", features)
    model.export(tmp_path / "e", padded=["b"])
    runtime = SavedModel(tmp_path / "e", Signature.from_file(tmp_path / "e"))

    def of(values, kind):
        field = {"ints": tf.train.Int64List, "floats": tf.train.FloatList}[kind](value=values)
        return tf.train.Feature(**{"int64_list" if kind == "ints" else "float_list": field})

    rows = [{"b": [1, 2, 3], "w": [1.0, 1.0]}, {"b": [4], "w": [1.0, 1.0]}]  # as many in all, and not row by row
    examples = [
        tf.train.Example(
            features=tf.train.Features(feature={"b": of(row["b"], "ints"), "w": of(row["w"], "floats")})
        ).SerializeToString()
        for row in rows
    ]
    arrays = {"b": np.ones([2, 3], np.int64), "w": np.ones([2, 2], np.float32), "price": np.zeros(2, np.float32)}
    for name, given in (("examples", {"examples": np.array(examples, object)}), ("serving_default", arrays)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="w has not one weight for each value of b"):
            runtime.run(name, given)


@pytest.mark.parametrize("name", ["nfm", "dlrm", "ranking", "xdeepfm"])
def test_ranked_candidates_have_their_scores(make, name, tmp_path):
    config = {"structure": "concat"} if name == "ranking" else {}
    model = make(name, **config)

    parity = model.export(tmp_path / "e", user=["in", "hist", "last", "price", "dist", "best"]).parity

    assert [said for said in parity.differences if said.startswith("rank")] == [
        f"rank of {rows}, user {user}" for rows in ("64 rows", "1 row", "0 rows") for user in (0, 1)
    ]
    assert parity.largest < 1e-5


@pytest.mark.parametrize("user", [["in"], ["price"], ["genre list"], ["genre list", "price"]])
@pytest.mark.parametrize("numeric", ["field", "concat"])
def test_any_columns_may_be_the_users(make, user, numeric, tmp_path):
    model = make("ranking", SMALL, numeric=numeric)

    assert model.export(tmp_path / "e", user=user).parity.largest < 1e-5


def test_a_model_that_was_only_built_or_loaded_is_exported(make, tmp_path):
    model = make("nfm", SMALL)
    model.save(tmp_path / "m.keras")

    for number, one in enumerate((model, nfm_tfrs.load_model(tmp_path / "m.keras"))):
        one.export(tmp_path / f"e{number}")

    rows = drawn_rows(model.features)
    assert run(tmp_path / "e0", rows)["logit"].tolist() == run(tmp_path / "e1", rows)["logit"].tolist()


def test_the_label_inside_the_batch_is_no_input(tmp_path):
    columns = {"u": [f"u{n % 9}" for n in range(64)], "v": [n % 7 for n in range(64)], "y": [n % 2 for n in range(64)]}
    model = nfm_tfrs.NFM(label="y")
    model.compile()
    model.fit(tf.data.Dataset.from_tensor_slices(columns).batch(16), verbose=0)

    model.save(tmp_path / "saved")

    assert set(written(tmp_path / "saved").signature_def["serving_default"].inputs) == {"u", "v"}


def test_a_keras_folder_has_the_signatures_and_opens_again(make, tmp_path):
    model = make("nfm", SMALL)
    model.compile(jit_compile=True)
    rows = drawn_rows(model.features).slice(2)  # not the huge number, whose square XLA rounds otherwise
    model.save(tmp_path / "saved")
    again = nfm_tfrs.load_model(tmp_path / "saved")
    again.save(tmp_path / "again")  # and what was loaded is saved

    loaded = tf.saved_model.load(str(tmp_path / "again")).signatures["serving_default"]
    from nfm_tfrs.serving.signature import inputs_of

    arrays = arrays_of(inputs_of(model.features), rows)
    found = loaded(**{name: tf.constant(v, tf.string if v.dtype == object else None) for name, v in arrays.items()})
    from nfm_tfrs.training.evaluate import predict

    np.testing.assert_allclose(found["logit"], predict(model, rows), rtol=1e-5, atol=1e-6)
    assert model._scored_by_xla is not None  # it is compiled as it was


def test_a_bag_whose_lengths_have_a_columns_name_can_be_saved(make, tmp_path):
    features = [MultiCategoricalFeature("tags", vocabulary_size=9), NumericFeature("tags_lengths")]

    make("ranking", features).save(tmp_path / "saved")

    assert set(written(tmp_path / "saved").signature_def["serving_default"].inputs) == {"tags", "tags_lengths"}


def test_nothing_is_compiled_by_xla(make, tmp_path):
    model = make("nfm", SMALL)
    model.compile(jit_compile=True)
    model.export(tmp_path / "e")

    functions = written(tmp_path / "e").graph_def.library.function
    assert [one.signature.name for one in functions if one.attr["_XlaMustCompile"].b] == []


def test_a_call_of_its_own_is_served_too(tmp_path):
    @keras.utils.register_keras_serializable("tests")
    class Doubled(RankingModel):
        def _set_features(self, features):
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["ann"], [2.0]), 1.0)
            super()._set_features(features)

        def call(self, columns, training=None):
            logits = super().call(columns, training)
            return logits * self.table.lookup(columns["in"])[:, None] if "in" in columns else logits

    model = Doubled(SMALL, embedding_stddev=0.3)

    parity = model.export(tmp_path / "e", user=["in", "genre list"]).parity

    assert parity.largest < 1e-5
    assert "rank of 64 rows, user 1" in parity.differences


def test_what_no_layer_holds_is_said(make, tmp_path):
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["ann"], [2.0]), 1.0)

    class Loose(RankingModel):
        def call(self, columns, training=None):
            logits = super().call(columns, training)
            return logits * table.lookup(columns["in"])[:, None] if "in" in columns else logits

    with pytest.raises(ValueError, match="The call of Loose reads a table or a variable that no layer holds"):
        Loose(SMALL).export(tmp_path / "e")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "nfm" else pytest.mark.slow) for name in list_models()]
)
def test_only_operations_that_older_servers_know(name, make, tmp_path):
    make(name).export(tmp_path / "e", user=["in", "hist", "last"], optional=["zone", "tags"])
    graph = written(tmp_path / "e")
    functions = graph.graph_def.library.function
    found = {node.op for node in graph.graph_def.node} | {node.op for one in functions for node in one.node_def}

    assert found <= OPERATIONS, found - OPERATIONS
    assert graph.graph_def.versions.min_consumer <= 12


def test_an_export_is_lean(served):
    graph = written(served)

    assert len(graph.graph_def.library.function) < 60
    assert sum(path.stat().st_size for path in served.rglob("*") if path.is_file()) < 1_000_000
    assert not any("keras" in node.user_object.identifier for node in graph.object_graph_def.nodes)


def test_plain_tensorflow_answers_without_this_package(served, rows, wanted, run_python, tmp_path):
    arrays = arrays_of(Signature.from_file(served).inputs, rows)
    given = {name: array.tolist() for name, array in arrays.items()}
    (tmp_path / "rows.json").write_text(json.dumps(given))
    script = f"""
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nfm_tfrs", "tfrs_registry", "tf_keras", "tensorflow_recommenders"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import tensorflow as tf
serve = tf.saved_model.load({str(served)!r}).signatures["serving_default"]
rows = json.load(open({str(tmp_path / "rows.json")!r}))
types = {{one["name"]: one["dtype"] for one in json.load(open({str(served / "signature.json")!r}))["inputs"]}}
found = serve(**{{name: tf.constant(rows[name], types[name]) for name in types}})
print(json.dumps(found["logit"].numpy().tolist()))
"""
    found = json.loads(run_python(script).stdout.splitlines()[-1])

    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
