"""The oracle proposes, promotes and stops as it says, and loses nothing when a process ends anywhere."""

import pytest

from nfm_tfrs.runs.files import write_text
from nfm_tfrs.tuning import keras_tuner
from nfm_tfrs.tuning.oracle import END, PARENT, START, HalvingOracle


def oracle(folder, *, load=False, more=0, **arguments):
    hp = keras_tuner.HyperParameters()
    hp.Int("x", 0, 10_000, default=77)
    for number in range(more):
        hp.Int(f"y{number}", 0, 10_000, default=0)
    made = HalvingOracle(
        keras_tuner.Objective("val_auc", "max"), **{"rungs": [1, 3, 9], "max_configurations": 12, **arguments}
    )
    made.update_space(hp)
    made._set_project_dir(str(folder), "trials")
    if load:
        made.reload()
    return made


def score(trial):
    return trial.hyperparameters.values["x"] / 1e4 + trial.hyperparameters.values[END] / 100


def finish(made, trial, status="COMPLETED"):
    if status == "COMPLETED":
        made.update_trial(trial.trial_id, {"val_auc": score(trial)})
    trial.status = status
    made.end_trial(trial)


def played(made, most=1000, tuner="tuner0"):
    """The trials in their order, as (x, parent, start, end)."""
    found = []
    while len(found) < most:
        trial = made.create_trial(tuner)
        if trial.status != "RUNNING":
            return found, trial.status
        values = trial.hyperparameters.values
        found.append((values["x"], values.get(PARENT), values[START], values[END]))
        finish(made, trial)
    return found, "RUNNING"


def test_a_whole_training_takes_what_the_slices_so_far_took(tmp_path, monkeypatch):
    made = oracle(tmp_path, rungs=[3, 9], max_configurations=2)
    assert made.whole_seconds() == 0
    finish(made, made.create_trial("tuner0"))  # the defaults, nine slices
    finish(made, made.create_trial("tuner0"))  # three
    monkeypatch.setattr(type(made), "time_spent", 24.0)
    assert made.whole_seconds() == 24.0 / 12 * 9
    made.trained = lambda trial: 20 if trial.trial_id == "0000" else 4  # the first went on behind its end
    assert made.whole_seconds() == 24.0 / 24 * 9
    first = oracle(tmp_path / "other", rungs=[3, 9], max_configurations=4)
    finish(first, first.create_trial("tuner0"))
    for name in ("tuner0", "tuner1"):
        first.create_trial(name)
    assert first.whole_seconds() == 2 * 24.0 / 9 * 9  # two trials side by side


def test_the_best_third_of_each_rung_goes_on_from_where_it_ended(tmp_path):
    made = oracle(tmp_path, max_configurations=13)
    found, status = played(made)
    assert status == "STOPPED"
    assert found[0] == (77, None, 0, 9)  # the defaults, whole
    by_rung = {end: [entry for entry in found[1:] if entry[3] == end] for end in (1, 3, 9)}
    assert len(by_rung[1]) == 12
    for number, (x, parent, start, _) in enumerate(found):
        if parent is not None:  # among the best third of those that had ended then
            ended = sorted((entry[0] for entry in found[:number] if entry[3] == start), reverse=True)
            assert ended.index(x) < len(ended) // 3
    assert all(start == {1: 0, 3: 1, 9: 3}[end] for _, _, start, end in found[1:])
    first = {entry[0] for entry in by_rung[1]}
    assert {entry[0] for entry in by_rung[3]} <= first
    # The best of all is promoted for certain, to the top.
    assert max(entry[0] for entry in by_rung[3]) in {entry[0] for entry in by_rung[9]}
    assert max(first) in {entry[0] for entry in by_rung[3]}
    for x, parent, start, _ in found:
        if parent is not None:
            values = made.trials[parent].hyperparameters.values
            assert (values["x"], values[END]) == (x, start)


def test_neighbouring_seeds_propose_different_values(tmp_path):
    first, second = (
        {x for x, *_ in played(oracle(tmp_path / str(seed), rungs=[9], seed=seed, neighbours=False))[0][1:]}
        for seed in (0, 1)
    )
    assert len(first & second) <= 2  # of eleven; counted up from the seed itself, ten


def test_one_rung_is_a_random_search(tmp_path):
    found, status = played(oracle(tmp_path, rungs=[9], max_configurations=5, neighbours=False))
    assert status == "STOPPED"
    assert [entry[1:] for entry in found] == [(None, 0, 9)] * 5
    assert len({entry[0] for entry in found}) == 5


def test_every_other_configuration_is_a_neighbour_of_one_of_the_best(tmp_path):
    made = oracle(tmp_path, rungs=[9], max_configurations=40, more=9)
    played(made)
    tried = [trial.hyperparameters.values for trial in made.trials.values()]
    kept = []
    for number, values in enumerate(tried):
        best = sorted(tried[:number], key=lambda before: -before["x"])[:3]
        same = [sum(values[f"y{k}"] == before[f"y{k}"] for k in range(9)) for before in best]
        kept.append(max(same, default=0))
    assert all(count == 0 for count in kept[2::2])  # at random: of ten thousand values none is met twice
    assert 5 < sum(kept[1::2]) / len(kept[1::2]) < 9  # 7.2 of nine
    assert all(count > 1 for count in kept[1::2])


# --- rates that fall to an end, what others have found, and what is mostly left off -----------------------------------


def test_what_falls_to_its_end_at_a_rung_begins_anew_when_it_is_promoted(tmp_path):
    made = oracle(tmp_path, rungs=[3, 9], max_configurations=13, ends=lambda values: values["x"] % 2 == 0)
    found, _ = played(made)
    promoted = [entry for entry in found if entry[1] is not None]
    assert {x % 2 for x, *_ in promoted} == {0, 1}
    assert all((start, end) == ((0 if x % 2 == 0 else 3), 9) for x, _, start, end in promoted)
    for number, (x, parent, *_) in enumerate(found):  # ranks are over all, whatever their rates do
        if parent is not None:
            ended = sorted((entry[0] for entry in found[1:number] if entry[1] is None), reverse=True)
            assert ended.index(x) < len(ended) // 3


def prior_oracle(folder, prior, **arguments):
    made = HalvingOracle(
        keras_tuner.Objective("val_auc", "max"),
        **{"rungs": [1], "max_configurations": 5, "prior": prior, "neighbours": False, **arguments},
    )
    hp = keras_tuner.HyperParameters()
    hp.Choice("block", ["b0", "b1"], default="b0")
    with hp.conditional_scope("block", ["b1"]):
        hp.Float("rate", 0.1, 1.0, default=0.5)
    hp.Boolean("norm", default=True)
    made.update_space(hp)
    made._set_project_dir(str(folder), "trials")
    return made


def proposed(made):
    found = []
    while (trial := made.create_trial("tuner0")).status == "RUNNING":
        found.append(trial.hyperparameters.values)
        made.update_trial(trial.trial_id, {"val_auc": 0.5})
        trial.status = "COMPLETED"
        made.end_trial(trial)
    return [{name: value for name, value in values.items() if not name.startswith("tuner/")} for values in found]


def test_what_won_on_other_sets_is_tried_right_after_the_defaults_as_far_as_the_space_has_it(tmp_path):
    prior = [
        {"block": "b1", "rate": 0.3, "heads": 4},  # no such name: left out
        {"block": "b2"},  # no such block: not tried
        {"block": "b1", "rate": 3.0},  # beyond the range
        {"block": "b1", "rate": "high"},
        {"norm": "yes"},
        {"block": "b0", "norm": True},  # the defaults, which were tried
        {"norm": False},
    ]
    tried = proposed(prior_oracle(tmp_path, prior))
    assert tried[:3] == [
        {"block": "b0", "norm": True},
        {"block": "b1", "rate": 0.3, "norm": True},
        {"block": "b0", "norm": False},
    ]
    assert len(tried) == 5


def test_what_won_elsewhere_and_has_a_problem_here_is_not_tried(tmp_path):
    made = prior_oracle(tmp_path, [{"block": "b1"}, {"norm": False}], problem=lambda v: "b1" if "rate" in v else None)
    assert proposed(made)[:2] == [{"block": "b0", "norm": True}, {"block": "b0", "norm": False}]


def test_a_rare_hyperparameter_mostly_keeps_its_default(tmp_path):
    counts = []
    for number, rare in enumerate([(), ("option",)]):
        made = oracle(tmp_path / str(number), rungs=[9], max_configurations=40, neighbours=False, rare=rare)
        hp = made.get_space()
        hp.Choice("option", [0, 1], default=0)
        made.update_space(hp)
        played(made)
        counts.append(sum(trial.hyperparameters.values["option"] for trial in made.trials.values()))
    assert 10 <= counts[0] <= 30
    assert 1 <= counts[1] <= 9  # an eighth


BLOCKS = ["b0", "b1", "b2", "b3", "b4", "b5"]


def blocks_oracle(folder, *, load=False, **arguments):
    """An oracle whose blocks take turns; of "b0" there is but one, of the others there are many."""
    made = HalvingOracle(
        keras_tuner.Objective("val_auc", "max"), **{"rungs": [9], "balanced": "block", "neighbours": False, **arguments}
    )
    hp = keras_tuner.HyperParameters()
    hp.Choice("block", BLOCKS, default="b0")
    with hp.conditional_scope("block", BLOCKS[1:]):
        hp.Int("x", 0, 10_000, default=77)
    made.update_space(hp)
    made._set_project_dir(str(folder), "trials")
    if load:
        made.reload()
    return made


def drawn_blocks(made, most=1000, status="COMPLETED"):
    found = []
    while len(found) < most and (trial := made.create_trial("tuner0")).status == "RUNNING":
        found.append(trial.hyperparameters.values["block"])
        if status == "COMPLETED":
            made.update_trial(trial.trial_id, {"val_auc": 0.5})
        trial.status = status
        made.end_trial(trial)
    return found


@pytest.mark.parametrize("neighbours", [False, True])
def test_blocks_are_drawn_by_turns(tmp_path, neighbours):
    for seed in range(5):
        made = blocks_oracle(tmp_path / str(seed), seed=seed, neighbours=neighbours, max_configurations=16)
        found = drawn_blocks(made)
        assert (found[0], found.count("b0")) == ("b0", 1)  # the default
        for number in range(1, 16):
            least = min(found[:number].count(block) for block in BLOCKS[1:])
            kept = found[:3] if neighbours and number % 2 else []  # all scores are equal: the first are the best
            assert found[number] in kept or found[:number].count(found[number]) == least


def test_turns_are_kept_when_a_search_is_resumed_and_a_failure_is_a_turn(tmp_path):
    expected = drawn_blocks(blocks_oracle(tmp_path / "whole"), most=12)
    first = drawn_blocks(blocks_oracle(tmp_path / "cut"), most=4, status="FAILED")
    rest = drawn_blocks(blocks_oracle(tmp_path / "cut", load=True), most=8)
    assert first + rest == expected


def test_a_block_that_has_nothing_left_or_cannot_be_made_passes_its_turn(tmp_path):
    made = blocks_oracle(
        tmp_path, problem=lambda values: "too wide" if values["block"] == "b1" else None, max_configurations=201
    )
    found = drawn_blocks(made)
    assert [found.count(block) for block in BLOCKS] == [1, 0, 50, 50, 50, 50]  # of "b0" there is but one


def test_the_same_seed_proposes_the_same(tmp_path):
    runs = [played(oracle(tmp_path / str(number), seed=seed))[0] for number, seed in enumerate((0, 0, 1))]
    assert runs[0] == runs[1] != runs[2]


def test_what_has_a_problem_is_never_proposed(tmp_path):
    made = oracle(tmp_path, problem=lambda values: "odd" if values["x"] % 2 else None)
    assert all(x % 2 == 0 for x, *_ in played(made)[0][1:])


def test_where_nothing_can_be_made_the_search_ends(tmp_path):
    made = oracle(tmp_path, problem=lambda values: "it is too wide")
    assert played(made) == ([], "STOPPED")
    assert made.last_problem == "it is too wide"


def test_no_trial_begins_when_time_is_up(tmp_path, monkeypatch):
    made = oracle(tmp_path, seconds=10.0)
    now = [0.0]
    monkeypatch.setattr("nfm_tfrs.tuning.oracle.time.monotonic", lambda: now[0])
    assert len(played(made, most=2)[0]) == 2
    now[0] = 9.0
    assert len(played(made, most=1)[0]) == 1
    again = oracle(tmp_path, load=True, seconds=10.0)  # a search that is started again has spent that time
    assert len(played(again, most=1)[0]) == 1
    now[0] = 10.5
    assert played(again) == ([], "STOPPED")


def test_a_process_that_ends_in_a_trial_begins_with_it_again_and_ends_the_same(tmp_path):
    expected, _ = played(oracle(tmp_path / "whole"))
    first, _ = played(oracle(tmp_path / "cut"), most=4)
    cut = oracle(tmp_path / "cut", load=True)
    begun = cut.create_trial("tuner0")  # and dies
    again = oracle(tmp_path / "cut", load=True)
    rest, _ = played(again)
    assert first + rest == expected
    assert rest[0][0] == begun.hyperparameters.values["x"]


def test_a_process_that_ends_right_after_a_trial_does_not_run_it_again(tmp_path, monkeypatch):
    expected, _ = played(oracle(tmp_path / "whole"))
    made = oracle(tmp_path / "cut")
    first, _ = played(made, most=3)
    trial = made.create_trial("tuner0")
    made.update_trial(trial.trial_id, {"val_auc": score(trial)})
    trial.status = "COMPLETED"
    saves = []
    monkeypatch.setattr(made, "save", lambda: saves.append(None) or HalvingOracle.save(made) if not saves else None)
    made.end_trial(trial)  # dies after the first of the two times that it saves
    rest, _ = played(oracle(tmp_path / "cut", load=True))
    assert [entry[0] for entry in first] + [trial.hyperparameters.values["x"]] + [entry[0] for entry in rest] == [
        entry[0] for entry in expected
    ]


def test_a_trial_that_the_oracle_does_not_know_never_began(tmp_path):
    expected, _ = played(oracle(tmp_path / "whole"))
    made = oracle(tmp_path / "cut")
    first, _ = played(made, most=2)
    before = (tmp_path / "cut" / "trials" / "oracle.json").read_text()
    made.create_trial("tuner0")
    write_text(tmp_path / "cut" / "trials" / "oracle.json", before)  # dies between the two files
    rest, _ = played(oracle(tmp_path / "cut", load=True))
    assert first + rest == expected


def test_failed_trials_are_no_candidates_and_too_many_in_a_row_end_the_search(tmp_path):
    made = oracle(tmp_path, max_failures=3)
    for _ in range(2):
        finish(made, made.create_trial("tuner0"), "FAILED")
    found, _ = played(made, most=3)
    assert len(found) == 3
    assert not made.gave_up
    for _ in range(3):
        finish(made, made.create_trial("tuner0"), "FAILED")
    assert made.gave_up
    assert made.create_trial("tuner0").status == "STOPPED"
    assert not oracle(tmp_path, load=True, max_failures=3).gave_up  # it is asked to try again


def test_progress_is_what_was_begun_and_the_best_so_far(tmp_path):
    made = oracle(tmp_path, max_configurations=13)
    assert made.progress() == (0, 0, None)
    found, _ = played(made)
    best = max(x / 1e4 + end / 100 for x, _, _, end in found)
    assert made.progress() == (len(found), 13, pytest.approx(best))


def test_a_worker_waits_while_another_one_may_still_decide_on_a_promotion(tmp_path):
    made = oracle(tmp_path, max_configurations=3, rungs=[1, 3])
    finish(made, made.create_trial("worker0"))  # the defaults, which nobody promotes
    one, other = made.create_trial("worker0"), made.create_trial("worker1")
    finish(made, one)
    assert made.create_trial("worker0").status == "IDLE"
    finish(made, other)
    assert made.create_trial("worker0").status == "STOPPED"
