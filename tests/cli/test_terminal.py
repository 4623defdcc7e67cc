"""What a person sees: one line for each error and warning, and how far a search is."""

from types import SimpleNamespace

import pytest
import typer

from nfm_tfrs.cli.terminal import (
    SearchProgress,
    one_line_errors,
    print_constant,
    print_metrics,
    print_table,
    show_warning,
)
from nfm_tfrs.keras_compat import tf


def test_progress_shows_the_trial_the_best_and_the_time_left_then_the_finalist():
    oracle = SimpleNamespace(progress=lambda: (4, 3, 0.75), time_spent=120.0, stage="")
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
