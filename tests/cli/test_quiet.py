"""What TensorFlow writes by itself reaches nobody, unless the process fails: then all of it does."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork, and other signals")

SCRIPT = """
import logging, os, signal, sys
from nfm_tfrs.cli.quiet import aside
with aside():
    os.write(2, b"of C++\\n")
    os.system("echo of a child >&2")
    logging.getLogger("tensorflow").warning("of the log")
    print("of Python", file=sys.stderr)
    {end}
"""
KEPT = ["of C++", "of a child", "WARNING:tensorflow:of the log"]


@pytest.mark.parametrize(("end", "status"), [("pass", 0), ("sys.exit(3)", 3), ("sys.exit(130)", 130)])
def test_what_libraries_write_is_kept_aside_where_the_process_ends_as_it_means_to(run_python, end, status):
    assert run_python(SCRIPT.format(end=end), status=status).stderr == "of Python\n"


def test_a_traceback_gives_it_back_whole_and_once(run_python):
    said = run_python(SCRIPT.format(end="1 / 0"), status=1).stderr.splitlines()
    assert said[:4] == ["of Python", *KEPT]
    assert said[4] == "Traceback (most recent call last):"
    assert said[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("number", ["SIGKILL", "SIGABRT", "SIGSEGV", "SIGTERM"])
def test_a_death_by_a_signal_gives_it_back_whole(run_python, number):
    end = f"os.kill(os.getpid(), signal.{number})"
    status = -signal.Signals[number]
    assert run_python(SCRIPT.format(end=end), status=status).stderr.splitlines() == ["of Python", *KEPT]


def test_a_long_output_is_given_back_whole(run_python):
    end = "[os.write(2, b'x' * 999 + b'\\n') for _ in range(500)]; os.abort()"
    assert run_python(SCRIPT.format(end=end), status=-6).stderr.count("x" * 999) == 500


def test_a_process_without_standard_error_works():
    script = "import os; os.close(2); from nfm_tfrs.cli.quiet import aside\nwith aside(): print('well')"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"well\n"


def test_a_command_that_imports_tensorflow_says_nothing_of_its_own(run_python, ratings):
    """Its log level set to the most that it says; in a process of its own, as a user runs it."""
    script = "import sys; sys.argv = ['nfm-tfrs', *{}]; from nfm_tfrs.cli import main; main()"
    arguments = ["describe", "--data", str(ratings), "--columns", "film"]
    done = run_python(script.format(arguments), TF_CPP_MIN_LOG_LEVEL="0", TF_CPP_MAX_VLOG_LEVEL="0")
    assert done.stderr == ""
    assert "film" in done.stdout
