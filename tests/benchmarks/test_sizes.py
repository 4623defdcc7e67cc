"""The benchmark of compressed tables trains what it says, draws it and shows it."""

import json

import pytest
import tables
from quality import sizes

from nfm_tfrs import CategoricalFeature, FeatureSpec

WORDS = [f"v{number}" for number in range(1000)]
SPEC = FeatureSpec([*(CategoricalFeature(name, vocabulary=WORDS) for name in sizes.LARGE)])
POINT = {"share": 0.1, "megabytes": 1.25, "auc": 0.75, "each": [0.75]}


@pytest.mark.parametrize(
    ("way", "rows"),
    [
        (sizes.WHOLE, 1001),
        ("hash buckets", 101),
        ("quotient-remainder, product", 101 + 11),
        ("quotient-remainder, sum", 101 + 11),
        ("two hashes", 101),
    ],
)
def test_each_way_has_the_rows_that_its_share_says(way, rows):
    from nfm_tfrs.embedding.layout import layouts_of

    features = sizes.features_of(SPEC, way, 0.1)
    assert sum(layout.num_rows for layout in layouts_of(features, 4, numbers=True)) == 2 * rows


def test_the_figure_and_the_table_show_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    ways = {sizes.WHOLE: [{**POINT, "share": 1.0}], "two hashes": [POINT, {**POINT, "megabytes": 0.5}]}
    sizes.draw(ways, 0.8, tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").read_bytes().startswith(b"\x89PNG")
    measured = {"rows": 2000, "seeds": 1, "best": 0.8, "ways": ways}
    measured |= {"machine": {"cpu": "AMD EPYC", "cores": 2}, "versions": {"numpy": "2.0"}}
    (tmp_path / "sizes.json").write_text(json.dumps(measured))
    shown = tables.sizes().splitlines()
    assert shown[0].endswith("; numpy 2.0; 2,000 rows, 1 seed; the best AUC there is is 0.8000.")
    assert shown[-1] == "| two hashes | 0.1 | 0.50 | 0.7500 |"


@pytest.mark.slow
def test_the_benchmark_runs(capsys):
    sizes.main(["--quick"])
    assert capsys.readouterr().out.count("megabytes") == 1 + len(sizes.WAYS)
