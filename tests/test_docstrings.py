"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import nfm_tfrs
import tfrs_registry


def examples():
    """Each docstring with an example, by its qualified name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for package in (nfm_tfrs, tfrs_registry):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                yield from (test for test in finder.find(importlib.import_module(module.name)) if test.examples)


@pytest.mark.parametrize("example", [pytest.param(test, id=test.name) for test in examples()])
def test_example_runs(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example.globs = dict(example.globs)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert result.failed == 0
