"""Messages of the library name options where a command has them."""

import pytest
import typer

from nfm_tfrs.cli.remedies import in_options, of_command
from nfm_tfrs.cli.terminal import one_line_errors, show_warning


def train(features, trials, min_count, category, number, valid, learning_rate, schedule, schedule_set, averaging):
    """A command."""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Give others, or features=.", "Give others, or --features."),
        ("Give valid=. Now", "Give --valid. Now"),
        ("min_count must be 1 or more; received 0.", "--min-count must be 1 or more; received 0."),
        ("trials must be more", "--max-trials must be more"),
        ("Give format=, one of", "Give format=, one of"),  # this command has none
        ("with combiner=None", "with combiner=None"),
        ("made with features=5 of a file", "made with features=5 of a file"),
        (
            "because they differ. Say with --category and --number, or kinds=.",
            "because they differ. Say with --category and --number.",
        ),
        ("but kinds calls it a number. Cast it", "but --number calls it a number. Cast it"),
        (
            'schedule="cosine" needs a rate. Give learning_rate= too.',
            "--schedule cosine needs a rate. Give --learning-rate too.",
        ),
        (
            "It takes no schedule_arguments; give schedule= too",
            "It takes no --schedule-set; give --schedule too",
        ),
        ("schedule_arguments must be an object", "--schedule-set must be an object"),
        ("optimizer_arguments must be an object", "optimizer_arguments must be an object"),
        ('whose key "schedule_arguments" is', 'whose key "schedule_arguments" is'),
        ('task="binary" alone', 'task="binary" alone'),
        ("Leave averaging= out", "Leave --averaging out"),
        ("Column 'x' is in kinds=.", "Column 'x' is in --category or --number."),
    ],
)
def test_an_argument_is_the_option_of_the_command_that_runs(line, expected):
    with of_command(train):
        assert in_options(line) == expected
    assert in_options(line) == line


def test_errors_and_warnings_of_a_command_name_options(capsys):
    @one_line_errors
    def command(features=None):
        show_warning("Give features=, or not.")
        raise ValueError("Give features=.")

    with pytest.raises(typer.Exit):
        command()
    assert capsys.readouterr().err == "nfm-tfrs: Give --features, or not.\nnfm-tfrs: Give --features.\n"
