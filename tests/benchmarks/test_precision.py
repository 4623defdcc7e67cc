"""The benchmark of precision pairs seeds, goes on where it stopped, and runs."""

import numpy as np
import pytest
from quality import optimizers, precision
from scipy.stats import ttest_rel

PLAN = precision.Plan(seeds=(1, 2, 3))


class Measured:
    """Runs that train nothing; every call is noted."""

    def __init__(self, stop_after=None):
        self.calls = []
        self.stop_after = stop_after

    def __call__(self, name, seed):
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((name, seed))
        score = {"float32": 0.7, "mixed_bfloat16": 0.6, "mixed_float16": 0.65}[name] + seed**2 / (100 + len(name))
        return {"valid_auc": score, "test_auc": score / 2, "test_log_loss": -score}


def test_every_precision_has_one_run_a_seed_and_differences_are_paired():
    measure, found = Measured(), {}
    precision.study(found, PLAN, measure, lambda: None)
    assert sorted(measure.calls) == sorted(
        (name, seed) for name in ("float32", "mixed_bfloat16", "mixed_float16") for seed in PLAN.seeds
    )
    assert found["summary"]["float32"]["differences"] == {}
    runs = {name: [found["runs"][name][str(seed)]["test_auc"] for seed in PLAN.seeds] for name in found["runs"]}
    expected = ttest_rel(runs["mixed_float16"], runs["float32"]).confidence_interval()
    gap = found["summary"]["mixed_float16"]["differences"]["test_auc"]
    np.testing.assert_allclose(gap["interval"], [expected.low, expected.high])
    assert found["summary"]["mixed_bfloat16"]["test_auc"]["mean"] == pytest.approx(np.mean(runs["mixed_bfloat16"]))


def test_a_study_that_was_stopped_goes_on():
    first, second, found, written = Measured(stop_after=4), Measured(), {}, []
    with pytest.raises(KeyboardInterrupt):
        precision.study(found, PLAN, first, lambda: written.append(len(written)))
    precision.study(found, PLAN, second, lambda: written.append(len(written)))
    assert len(first.calls) + len(second.calls) == 9
    assert not set(first.calls) & set(second.calls)
    assert len(written) == 10  # after each run, and with the summary


@pytest.mark.slow
def test_quick_trains_all_precisions_and_writes_nothing(capsys):
    before = {path: path.read_bytes() for path in precision.RESULTS.parent.iterdir()}
    precision.main(["--quick"])
    shown = capsys.readouterr().out
    assert all(f"{name:15} seed 2" in shown for name in ("float32", "mixed_bfloat16", "mixed_float16"))
    assert shown.count("test_auc      ") == 2
    assert before == {path: path.read_bytes() for path in precision.RESULTS.parent.iterdir()}


def test_other_settings_are_not_mixed_with_what_there_is(tmp_path, capsys, monkeypatch):
    path = tmp_path / "precision.json"
    path.write_text('{"seeds": [1], "data": {}}')
    monkeypatch.setattr(precision, "RESULTS", path)
    with pytest.raises(SystemExit):
        precision.main([])
    assert "was measured with other settings. Remove it to start anew." in capsys.readouterr().err


def test_what_was_measured_is_written_whole_and_found_again(tmp_path):
    results, write = optimizers.resumed(tmp_path / "new" / "found.json", {"seeds": [1]}, None)
    results["data"]["some"] = {"runs": 3}
    write()
    again, _ = optimizers.resumed(tmp_path / "new" / "found.json", {"seeds": [1]}, None)
    assert again == {"seeds": [1], "data": {"some": {"runs": 3}}}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["found.json"]
