"""The command `tfrs-registry`."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from tfrs_registry.__main__ import main

PROVIDER = f"nfm-tfrs {metadata.version('nfm-tfrs')}"
RUN = "import sys; from tfrs_registry.__main__ import main; sys.exit(main({arguments!r}))"
BROKEN = "[tfrs_registry.blocks]\nruined = ruin:SPEC\n[tfrs_registry.models]\nnfm = ruin:SPEC\n"
RUINED = "The block 'ruined' of ruin 0.3 cannot be loaded from 'ruin:SPEC': OSError: disk gone. Repair or remove ruin."


def offered(add_distribution, module: str) -> str:
    """A package whose block `plain` is what the module calls `P`."""
    spec = "from tfrs_registry import ComponentSpec\nSPEC = ComponentSpec(name='plain', target='{}', summary='One.')\n"
    entry_points = "[tfrs_registry.blocks]\nplain = plain:SPEC\n"
    return add_distribution("plain", "0.1", entry_points=entry_points, module=spec.format("plain:P") + module)


def listed(text: str) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in text.splitlines()]


def test_list_names_kind_component_package_and_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = {(kind, name): rest for kind, name, rest in listed(capsys.readouterr().out)}
    assert lines["model", "ranking"] == PROVIDER
    nfm = lines["model", "nfm"]
    assert nfm.startswith(f"{PROVIDER}  ")
    assert nfm.endswith("He & Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017")
    assert lines["block", "bi_interaction"].endswith("SIGIR 2017")
    del lines["model", "ranking"]
    assert all(rest.removeprefix(PROVIDER).strip() for rest in lines.values())  # each has its paper


@pytest.mark.parametrize(
    ("arguments", "kinds"), [(["--models"], {"model"}), (["--blocks"], {"block"}), ([], {"model", "block"})]
)
def test_list_can_be_kept_to_one_kind(
    capsys: pytest.CaptureFixture[str], arguments: list[str], kinds: set[str]
) -> None:
    main(["list", *arguments])
    assert {line[0] for line in listed(capsys.readouterr().out)} == kinds


def test_list_filters_by_pattern_and_tag(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "*nfm*", "--tag", "factorization", "--tag", "deep"])
    names = [line[1] for line in listed(capsys.readouterr().out)]
    assert "nfm" in names
    assert "ranking" not in names


def test_show_prints_what_the_spec_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "NFM"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model nfm: ")
    assert "  class    nfm_tfrs.models.nfm:NFM" in lines
    assert f"  from     {PROVIDER}" in lines
    assert "  formula  ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN(Σ_{i<j} v_i ⊙ v_j)" in lines
    assert any(line.startswith("  tags     factorization") for line in lines)
    assert any(line.startswith("  paper    He & Chua") for line in lines)


def test_show_leaves_out_what_a_spec_does_not_say(run_python, add_distribution) -> None:
    site = offered(add_distribution, "")
    shown = run_python(RUN.format(arguments=["show", "plain"]), PYTHONPATH=site)
    assert shown.stdout.splitlines() == ["block plain: One.", "  class    plain:P", "  from     plain 0.1"]


def test_show_of_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "bi-interactoin"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        "tfrs-registry: Unknown model or block 'bi-interactoin'. Did you mean 'bi_interaction'? Known: "
    )
    assert captured.err.count("\n") == 1


def test_show_prints_the_arguments_of_a_class_and_their_defaults(run_python, add_distribution) -> None:
    module = "class P:\n    def __init__(self, units, *, kind: str = 'wide', sizes=(4, 2), **kwargs): ...\n"
    site = offered(add_distribution, module)
    shown = run_python(RUN.format(arguments=["show", "plain", "--arguments"]), PYTHONPATH=site)
    assert shown.stdout.partition("  arguments\n")[2].splitlines() == [
        "    units",
        "    kind = 'wide'",
        "    sizes = (4, 2)",
        "    **kwargs",
    ]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "",
            "The block 'plain' of plain 0.1 cannot be loaded from 'plain:P': AttributeError: module 'plain' has no "
            "attribute 'P'. Repair or remove plain.",
        ),
        (
            "class P:\n    __signature__ = 3\n",
            "The block 'plain' of plain 0.1 does not tell its arguments: unexpected object 3 in __signature__ "
            "attribute. Ask its authors for a constructor with a signature.",
        ),
    ],
)
def test_arguments_that_cannot_be_shown_are_one_line(run_python, add_distribution, module: str, message: str) -> None:
    site = offered(add_distribution, module)
    shown = run_python(RUN.format(arguments=["show", "plain", "--arguments"]), PYTHONPATH=site, status=2)
    assert shown.stdout == ""
    assert [line for line in shown.stderr.splitlines() if line.startswith("tfrs-registry")] == [
        f"tfrs-registry: {message}"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: list | show | check"),
        (["show"], "the following arguments are required: name"),
        (["list", "--models", "--blocks"], "argument --blocks: not allowed with argument --models"),
    ],
)
def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"tfrs-registry: {message}\n"


@pytest.mark.parametrize("arguments", [["list"], ["list", "--tag", "deep"], ["show", "nfm"]])
def test_listing_and_showing_do_not_import_tensorflow(run_python, arguments: list[str]) -> None:
    script = (
        f"import sys; from tfrs_registry.__main__ import main; status = main({arguments!r});"
        "sys.exit(status or 'tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    assert "nfm" in run_python(script).stdout


def test_a_broken_plugin_is_listed_and_warned_about_where_its_spec_is_needed(run_python, add_distribution) -> None:
    site = add_distribution("ruin", "0.3", entry_points=BROKEN, module="raise OSError('disk gone')")
    plain = run_python(RUN.format(arguments=["list"]), PYTHONPATH=site)
    assert ["block", "ruined", f"broken: {RUINED}"] in listed(plain.stdout)
    assert plain.stderr.splitlines() == [
        f"tfrs-registry: warning: ruin 0.3 also offers the model 'nfm'; the built-in one of {PROVIDER} is used.",
    ]
    tagged = run_python(RUN.format(arguments=["list", "--tag", "factorization"]), PYTHONPATH=site)
    assert "bi_interaction" in tagged.stdout
    assert tagged.stderr.splitlines() == [
        f"tfrs-registry: warning: ruin 0.3 also offers the model 'nfm'; the built-in one of {PROVIDER} is used.",
        f"tfrs-registry: warning: Left out of the list: {RUINED}",
    ]
    shown = run_python(RUN.format(arguments=["show", "ruined"]), PYTHONPATH=site, status=2)
    assert shown.stderr == f"tfrs-registry: {RUINED}\n"


def test_a_clash_is_shown_in_the_list(run_python, add_distribution) -> None:
    add_distribution("one", "1.0", entry_points="[tfrs_registry.blocks]\nsame = one:SPEC\n")
    site = add_distribution("two", "2.0", entry_points="[tfrs_registry.blocks]\nsame = two:SPEC\n")
    done = run_python(RUN.format(arguments=["list", "same"]), PYTHONPATH=site)
    problem = "broken: The block 'same' is offered by one 1.0 and two 2.0; remove all but one of them."
    assert listed(done.stdout) == [["block", "same", problem]]


@pytest.mark.slow
def test_check_reports_each_component_and_fails_where_one_is_broken(run_python, add_distribution) -> None:
    whole = run_python(RUN.format(arguments=["check"]))
    assert ["model", "nfm", "ok"] in listed(whole.stdout)
    assert {line[2] for line in listed(whole.stdout)} == {"ok"}
    site = add_distribution("ruin", "0.3", entry_points=BROKEN, module="raise OSError('disk gone')")
    broken = run_python(RUN.format(arguments=["check"]), PYTHONPATH=site, status=1)
    assert ["block", "ruined", f"broken: {RUINED}"] in listed(broken.stdout)
    assert ["block", "bi_interaction", "ok"] in listed(broken.stdout)


def test_check_under_the_wrong_keras_is_one_line(run_python) -> None:
    done = run_python(RUN.format(arguments=["check"]), TF_USE_LEGACY_KERAS="0", status=2)
    assert done.stderr.startswith("tfrs-registry: TF_USE_LEGACY_KERAS is '0'")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "tfrs_registry", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait() == 0


def test_list_cuts_its_lines_at_a_terminals_width_alone(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["list"]) == 0
    whole = capsys.readouterr().out.splitlines()
    assert max(map(len, whole)) > 60
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines() == [line if len(line) <= 60 else f"{line[:59]}…" for line in whole]
