"""Claims read from the metadata of packages, in fresh interpreters."""

from importlib import metadata

from tfrs_registry.discovery import installed_claims

LIST_BLOCKS = "import tfrs_registry; print(*tfrs_registry.list_blocks())"
SPEC = """
from tfrs_registry import ComponentSpec
class Block: pass
SPEC = ComponentSpec(name="acme_block", target="acme:Block", summary="A block.")
"""
ENTRY_POINT = "[tfrs_registry.blocks]\nacme_block = acme:SPEC\n"


def test_this_distribution_is_the_built_in_one() -> None:
    claims = list(installed_claims("tfrs_registry.models"))
    mine = [claim for claim in claims if claim.name == "nfm"]
    assert [claim.builtin for claim in mine] == [True]
    assert mine[0].provider == f"nfm-tfrs {metadata.version('nfm-tfrs')}"


def test_a_package_on_the_path_is_found_and_not_built_in(run_python, add_distribution) -> None:
    site = add_distribution("acme", "1.2", entry_points=ENTRY_POINT, module=SPEC)
    script = (
        "import tfrs_registry as t; claim = t.blocks._owner('acme_block');"
        "print(claim.provider, claim.builtin, t.blocks.load('acme-block').__name__)"
    )
    assert run_python(script, PYTHONPATH=site).stdout.split() == ["acme", "1.2", "False", "Block"]


def test_one_package_seen_twice_is_no_clash_and_its_first_copy_counts(run_python, add_distribution) -> None:
    newer = add_distribution("acme", "1.3", entry_points=ENTRY_POINT, module=SPEC)
    older = add_distribution("acme", "1.2", entry_points=ENTRY_POINT + "gone = acme:GONE\n", folder="older")
    script = (
        "from tfrs_registry import *; print(list_blocks('acme*'), list_blocks('gone'), blocks.provider('acme_block'))"
    )
    done = run_python(script, PYTHONPATH=f"{newer}:{older}")
    assert done.stdout.strip() == "['acme_block'] [] acme 1.3"


def test_a_package_installed_in_a_running_process_is_found_after_refresh(
    run_python, add_distribution, tmp_path
) -> None:
    script = """
import pathlib, sys, tfrs_registry
site = pathlib.Path("site")
(site / "new-1.0.dist-info").rename(site / "new-1.0.hidden")
sys.path.insert(0, str(site))
before = tfrs_registry.list_blocks("acme*")
(site / "new-1.0.hidden").rename(site / "new-1.0.dist-info")
cached = tfrs_registry.list_blocks("acme*")
tfrs_registry.refresh()
print(before, cached, tfrs_registry.list_blocks("acme*"))
"""
    add_distribution("new", "1.0", entry_points=ENTRY_POINT)
    assert run_python(script, folder=tmp_path).stdout.strip() == "[] [] ['acme_block']"


def test_listing_imports_neither_tensorflow_nor_a_plugin(run_python, add_distribution) -> None:
    site = add_distribution("acme", "1.2", entry_points=ENTRY_POINT, module="raise SystemExit('imported')")
    script = (
        f"import sys; {LIST_BLOCKS}; print({{'tensorflow', 'keras', 'numpy', 'nfm_tfrs', 'acme'}} & set(sys.modules))"
    )
    names, imported = run_python(script, PYTHONPATH=site).stdout.splitlines()
    assert {"acme_block", "bi_interaction"} <= set(names.split())
    assert imported == "set()"


def test_specs_and_tags_do_not_import_tensorflow(run_python) -> None:
    script = """
import sys, tfrs_registry
print(tfrs_registry.list_models(tags=["factorization", "deep"]), tfrs_registry.models.spec("nfm").name)
print({"tensorflow", "keras", "tf_keras", "numpy"} & set(sys.modules))
"""
    assert run_python(script).stdout.splitlines() == ["['deepfm', 'nfm'] nfm", "set()"]
