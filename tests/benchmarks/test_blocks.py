"""The benchmark of the blocks runs, and its table says what it measured."""

import pytest
import tables
from lib.places import BENCHMARKS

RESULTS = BENCHMARKS / "results" / "blocks.json"
SHAPES = [("39", "16"), ("10", "64")]


def side(milliseconds, peak):
    return {"milliseconds": milliseconds, "interval": [0.5, 2.0], "peak_megabytes": peak}


def made_up_results():
    ratio = {"median": 1.5, "interval": [1.25, 1.75], "verdict": "slower"}
    compared = {"parameters": 1234, "flops": 1, "ours": side(1500.4, 30), "deepctr": side(1000.0, 60), "ratio": ratio}
    faster = {"median": 0.5, "interval": [0.25, 0.75], "verdict": "faster"}
    other = {"parameters": 12, "flops": 1, "ours": side(0.51234, 3), "deepctr": side(1.0, 6), "ratio": faster}
    alone = {"parameters": 0, "flops": 1, "ours": side(25.04, 7)}
    return {
        "entries": {
            "cross (matrix)": {"shapes": {"39 x 16": compared, "10 x 64": other}},
            "concat": {"shapes": {"39 x 16": alone, "10 x 64": alone}},
        }
    }


@pytest.mark.slow
def test_quick_run_measures_the_named_blocks_at_both_shapes_and_writes_nothing(run_python, tmp_path):
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    script = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['blocks', '--quick', '--blocks', 'bi_interaction', 'fm']\n"
        f"runpy.run_path({str(BENCHMARKS)!r}, run_name='__main__')"
    )
    lines = run_python(script, folder=tmp_path).stdout.splitlines()
    measured = [line.split()[:4] for line in lines if " ms" in line]
    assert measured == [[name, fields, "x", dim] for name in ("bi_interaction", "fm") for fields, dim in SHAPES]
    assert list(tmp_path.iterdir()) == []
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before


def test_table_has_a_row_a_block_and_leaves_empty_what_has_no_peer():
    assert tables.table(made_up_results()).splitlines() == [
        "| block | parameters | 39 x 16: ms | DeepCTR | ratio | MB / DeepCTR "
        "| 10 x 64: ms | DeepCTR | ratio | MB / DeepCTR |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| cross (matrix) | 1,234 / 12 | 1,500 | 1,000 | 1.50 [1.25, 1.75] slower | 30 / 60 "
        "| 0.512 | 1.00 | 0.50 [0.25, 0.75] | 3 / 6 |",
        "| concat | 0 | 25.0 |  |  | 7 | 25.0 |  |  | 7 |",
    ]


def test_caption_names_the_machine_and_the_versions():
    results = {"machine": {"cpu": "Z80", "cores": 2}, "versions": {"numpy": "2.0"}, "rounds": 9, "seed": 7}
    assert tables.caption(results).startswith("Z80, 2 cores; numpy 2.0; medians of 9 rounds, seed 7; ")


@pytest.mark.parametrize("name", ["blocks", "speed"])
def test_table_takes_the_place_between_its_own_markers(name):
    text = "a\n<!-- blocks:begin -->\nold\n<!-- blocks:end -->\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nb\n"
    begin, end = tables.markers(name)
    changed = tables.placed(text, name, "new\n")
    assert changed == text.replace(f"{begin}\nold\n{end}", f"{begin}\nnew\n{end}")


def test_text_without_markers_is_refused():
    with pytest.raises(ValueError, match="has no <!-- speed:begin -->"):
        tables.placed("<!-- blocks:begin -->\n<!-- blocks:end -->", "speed", "new\n")
