"""What a run.json holds: what a run was told and made from, without credentials."""

import json

import pytest

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import Winner
from nfm_tfrs.runs.record import RunRecord, Source, as_command, without_credentials
from nfm_tfrs.target import Target

SECRETS = [
    ("s3://key:secret@bucket/rows.parquet", "s3://bucket/rows.parquet"),
    ("https://user:pass@host/a.csv?x=1&X-Amz-Signature=secret", "https://host/a.csv"),
    ("https://host/a.csv?sig=secret#part", "https://host/a.csv"),
    ("abfs://secret@account/rows", "abfs://account/rows"),
    ("data/rows@home.parquet", "data/rows@home.parquet"),
    ("rows?.parquet", "rows?.parquet"),  # a pattern
    ("rating>=4", "rating>=4"),
]


def record(**changes):
    told = {
        "target": Target.parse("rating>=4", weight="trust"),
        "seed": 3,
        "split": "time:day",
        "groups": "user",
        "recipe": Configuration(model="nfm", config={"embedding_dim": 8}, optimizer="adam", precision="float32"),
        "epochs": 5,
        "patience": 2,
        "winner": Winner(seed=1, slices=7),
        "slices": 9,
        "source": Source(data=("a.csv", "b.csv"), valid=("v.csv",), format="csv", stream=True, fingerprint="f00"),
        "versions": {"nfm-tfrs": "0.1.0"},
        "date": "2026-01-02T03:04:05+00:00",
        "command": "nfm-tfrs train",
    }
    return RunRecord(**{**told, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"interrupted": True}, {"recipe": None, "source": None, "winner": None, "slices": None}]
)
def test_a_record_is_read_back_as_it_was_written(tmp_path, changes):
    written = record(**changes)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(written.to_json()))
    assert RunRecord.from_file(path) == written


def test_a_record_of_version_0_1_0_says_what_it_knows(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"label": "rating>=4", "split": "random", "seed": 2, "weight": null, "groups": "user"}')
    found = RunRecord.from_file(path)
    assert found == RunRecord(target=Target.parse("rating>=4"), seed=2, split="random", groups="user")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"label": "a>>b"}',
        '{"label": "a", "recipe": {"model": "nfm"}}',
        *(
            f'{{"label": "a", "{name}": [4]}}'
            for name in ("seed", "split", "groups", "epochs", "patience", "versions", "interrupted")
        ),
    ],
)
def test_what_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is no run\.json of a run: .* Give the folder that train wrote\."):
        RunRecord.from_file(path)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"paths": "a.csv"}, "'paths' is str"),
        ({"paths": ["a.csv", 5]}, "'paths' holds 5"),
        ({"valid": ["a.csv"]}, "it has no 'paths'"),
        ({"paths": ["a.csv"], "stream": "no"}, "'stream' is str"),
        (5, "5 is no object"),
    ],
)
def test_a_source_that_is_none_is_named(tmp_path, source, line):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**record().to_json(), "data": source}))
    with pytest.raises(ValueError, match=rf"run\.json is no run\.json of a run: {line}\. Give"):
        RunRecord.from_file(path)


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**record().to_json(), "format": 99}))
    with pytest.raises(ValueError, match=r"has format 99, .* Install a newer nfm-tfrs\. Give"):
        RunRecord.from_file(path)


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_credentials_are_cut_out(text, expected):
    assert without_credentials(text) == expected


def test_no_credential_reaches_the_record():
    paths = tuple(text for text, _ in SECRETS)
    told = record(
        source=Source(data=paths, valid=paths, test=paths),
        command=as_command(["nfm-tfrs", "train", "--data", *paths, "--cache=s3://key:secret@bucket/cache"]),
    )
    written = json.dumps(told.to_json())
    for secret in ("secret", "pass", "key", "Signature", "sig="):
        assert secret not in written
    assert "s3://bucket/rows.parquet" in written


def test_a_command_can_be_typed_again():
    command = as_command(["nfm-tfrs", "train", "--label", "rating>=4", "--data", "my rows.csv"])
    assert command == "nfm-tfrs train --label 'rating>=4' --data 'my rows.csv'"
