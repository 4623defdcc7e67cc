"""What `import nfm_tfrs` gives, and what it leaves alone."""

from importlib import metadata

import pytest

import nfm_tfrs


def test_importing_the_package_and_its_specs_imports_nothing_heavy(run_python) -> None:
    script = "import sys, nfm_tfrs, nfm_tfrs.specs; dir(nfm_tfrs); nfm_tfrs.__version__; print(*sys.modules)"
    imported = {name.split(".")[0] for name in run_python(script).stdout.split()}
    assert not imported & {"tensorflow", "tf_keras", "keras", "keras_tuner", "numpy", "pyarrow", "matplotlib", "rich"}


@pytest.mark.parametrize("name", nfm_tfrs.__all__)
def test_every_export_is_there(name: str) -> None:
    assert getattr(nfm_tfrs, name) is not None
    assert name in dir(nfm_tfrs)


def test_the_version_is_the_installed_one() -> None:
    assert nfm_tfrs.__version__ == metadata.version("nfm-tfrs")


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'nfm_tfrs' has no attribute 'nothing'$"):
        nfm_tfrs.nothing  # noqa: B018
