"""Every measured table of the pages is what the generator makes of the results: none is edited by hand."""

import json
import re

import pytest
import tables


@pytest.mark.parametrize("path", tables.PAGES, ids=lambda path: path.name)
def test_the_tables_of_a_page_are_those_of_the_results(path):
    text = path.read_text()
    assert tables.filled(text) == text


def test_every_table_has_one_place():
    text = "".join(path.read_text() for path in tables.PAGES)
    for end in ("begin", "end"):
        assert sorted(re.findall(f"<!-- (.+):{end} -->", text)) == sorted(tables.TABLES)


def test_filling_a_page_replaces_what_was_edited_and_keeps_the_rest(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- precision:begin -->\nedited by hand\n<!-- precision:end -->\nbehind\n")
    monkeypatch.setattr(tables, "PAGES", (path,))
    tables.main()
    assert path.read_text() == (
        f"before\n<!-- precision:begin -->\n{tables.precision()}<!-- precision:end -->\nbehind\n"
    )


def test_quality_on_movielens_is_shown_with_its_spread_and_its_settings_from_the_best_on(tmp_path, monkeypatch):
    def of(mean, sd=0.00125):
        return {"mean": mean, "sd": sd}

    one = {"auc": of(0.75, None), "log_loss": of(0.5, None)}
    valid = {"defaults": {"auc": of(0.7), "log_loss": of(0.6)}, "adam": {"auc": of(0.8, 0.0), "log_loss": of(0.5)}}
    results = {
        "valid": valid,
        "test": {"regression": {**one, "calibration_error": of(0.03125), "grouped_auc": of(0.6), "groups": of(9.0)}},
        "seeds": 3,
        "versions": {"numpy": "2.0"},
    }
    (tmp_path / "movielens.json").write_text(json.dumps(results))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    caption, _, *rows = tables.movielens().splitlines()
    assert caption == "numpy 2.0; mean and standard deviation of 3 seeds, where there are any."
    assert rows[2:] == ["| regression | 0.7500 | 0.5000 | 0.0312 ± 0.0013 | 0.6000 ± 0.0013 |"]
    assert tables.movielens_settings().splitlines()[2:] == [
        "| adam | 0.8000 ± 0.0000 | 0.5000 ± 0.0013 |",
        "| defaults | 0.7000 ± 0.0013 | 0.6000 ± 0.0013 |",
    ]
