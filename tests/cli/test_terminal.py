"""What a person sees: one line for each error and warning, and how far a search is."""

import io
from types import SimpleNamespace

import pytest
import typer
from rich.console import Console

from nfm_tfrs.cli.terminal import (
    SearchProgress,
    TrainingProgress,
    one_line_errors,
    print_constant,
    print_metrics,
    print_table,
    show_warning,
)
from nfm_tfrs.keras_compat import tf


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("nfm_tfrs.cli.terminal.console", Console(force_terminal=True, file=io.StringIO()))


def oracle_of(trials=4, ended=3, best=0.75):
    return SimpleNamespace(
        progress=lambda: (trials, ended, best), time_spent=120.0, stage="", whole_seconds=lambda: 0.0
    )


def test_progress_shows_the_trial_the_best_and_the_time_left_then_the_finalist(terminal):
    oracle = oracle_of()
    progress = SearchProgress(None, 10)
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "trial 4  best 0.7500  8 min left"
    assert progress.tasks[0].percentage == pytest.approx(20)
    oracle.time_spent = 570.0
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "trial 4  best 0.7500  30 s left"
    oracle.stage = "finalist 1 of 3"
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "finalist 1 of 3  best 0.7500"
    assert progress.tasks[0].percentage == 100


def test_the_time_left_counts_the_finalists(terminal, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("nfm_tfrs.cli.terminal.time.monotonic", lambda: clock[0])
    oracle = oracle_of()
    oracle.whole_seconds = lambda: 40.0
    progress = SearchProgress(None, 10, trainings=9)
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "trial 4  best 0.7500  14 min left"  # 8 of the search, 6 of the finalists
    oracle.stage = "finalist 1 of 3"
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "finalist 1 of 3  best 0.7500  6 min left"
    clock[0] += 320
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "finalist 1 of 3  best 0.7500  40 s left"


def test_without_a_terminal_a_search_is_a_line_for_each_trial_and_finalist(capsys):
    oracle = oracle_of()
    progress = SearchProgress(8, None)
    progress.watch(oracle, None, [])
    progress.watch(oracle, None, [])
    oracle.stage = "finalist 1 of 3"
    progress.watch(oracle, None, [])
    said = capsys.readouterr().out.splitlines()
    assert said == ["trial 4  best 0.7500  3 min left", "finalist 1 of 3  best 0.7500"]


@pytest.mark.parametrize(("objective", "marked"), [(("val_auc", "max"), [1, 3]), (("val_rmse", "min"), [1, 2])])
def test_without_a_terminal_training_is_a_line_an_epoch_that_marks_the_best_so_far(objective, marked, capsys):
    with TrainingProgress("nfm") as progress:
        bar = progress.callback()
        bar.set_model(SimpleNamespace(objective=objective, count_params=lambda: 5907))
        bar.set_params({"steps": 3})
        bar.on_train_begin()
        for epoch, score in enumerate((0.6, 0.5, 0.7)):
            bar.on_epoch_begin(epoch)
            bar.on_train_batch_end(2)
            bar.on_epoch_end(epoch, {"loss": 0.25, objective[0]: score})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "nfm: 5,907 parameters, 3 training steps an epoch."
    assert [line.removesuffix("  best so far") for line in said[1:]] == [
        f"epoch   1  loss 0.2500  {objective[0]} 0.6000",
        f"epoch   2  loss 0.2500  {objective[0]} 0.5000",
        f"epoch   3  loss 0.2500  {objective[0]} 0.7000",
    ]
    with TrainingProgress("nfm") as progress:
        bar = progress.callback()
        bar.set_model(SimpleNamespace(objective=objective, count_params=lambda: 1))
        bar.set_params({"steps": 1})
        bar.on_train_begin()
        bar.on_epoch_end(0, {"loss": 0.25, objective[0]: float("nan")})
    assert capsys.readouterr().out.endswith(" nan\n")  # which is no best
    assert [number for number in (1, 2, 3) if said[number].endswith("best so far")] == marked


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ModuleNotFoundError])
def test_what_a_person_can_mend_is_one_line(kind, capsys):
    @one_line_errors
    def command():
        raise kind("There is no [such] file :smile:.")

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "nfm-tfrs: There is no [such] file :smile:.\n"


def test_ctrl_c_is_one_line(capsys):
    @one_line_errors
    def command():
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "nfm-tfrs: Interrupted.\n"


def test_a_fault_of_ours_keeps_its_traceback():
    @one_line_errors
    def command():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()


def test_a_traceback_is_shown_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("NFM_TFRS_TRACEBACK", "1")

    @one_line_errors
    def command():
        raise ValueError("mendable")

    with pytest.raises(ValueError, match="mendable"):
        command()


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("x/weights; No space left on device", "The disk is full: x/weights; No space left on device Make room, and"),
        ("OOM when allocating", "The memory does not suffice: OOM when allocating Make the model smaller."),
    ],
)
def test_what_is_used_up_is_said_in_one_line(reason, line, capsys):
    @one_line_errors
    def command():
        raise tf.errors.ResourceExhaustedError(None, None, f"{reason}\nand more")

    with pytest.raises(typer.Exit):
        command()
    assert line in capsys.readouterr().err


def test_a_warning_is_one_line(capsys):
    show_warning(UserWarning("Column 'a' is left out."), UserWarning, "somewhere.py", 3)
    assert capsys.readouterr().err == "nfm-tfrs: Column 'a' is left out.\n"


def test_names_of_columns_are_no_markup(capsys):
    print_metrics("rows of [b]old[/b]", {"auc[/kg]": 0.5})
    said = capsys.readouterr().out
    assert "[b]old[/b]" in said
    assert "auc[/kg]" in said


@pytest.mark.parametrize(("rmse", "warned"), [(0.9, False), (1.5, True)])
def test_a_model_that_is_no_better_than_a_constant_is_warned_of(rmse, warned, capsys):
    print_constant("test rows", {"rmse": rmse}, {"rmse": 1.0})
    said = capsys.readouterr()
    assert said.out == "The training rows' mean for every row: rmse 1.0000.\n"
    expected = (
        "nfm-tfrs: test rows: The model is no better than the mean of the training rows for every row: "
        "rmse 1.5000 against 1.0000. Train longer, or give columns that tell the label.\n"
    )
    assert said.err == (expected if warned else "")


def test_a_table_is_text_in_columns(capsys):
    print_table("two [b]rows[/b]", ("feature", "values"), [("film", "9"), ("user_id", "1,000")])
    assert capsys.readouterr().out.splitlines() == [
        "two [b]rows[/b]",
        "feature  values",
        "film          9",
        "user_id   1,000",
    ]
