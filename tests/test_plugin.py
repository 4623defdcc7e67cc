"""A package of somebody else's, tests/plugin, built, installed beside ours in a fresh environment, and used by name."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FILES, FOLDERS = ("pyproject.toml", "README.md", "LICENSE"), ("nfm_tfrs", "registry", "tests")

COMMON = """
import json, sys

found = {}

def error_of(use):
    try:
        use()
    except Exception as error:
        return [type(error).__name__, str(error), type(error.__cause__).__name__]

def features():
    from nfm_tfrs import CategoricalFeature, NumericFeature
    return [CategoricalFeature("user", vocabulary_size=6), CategoricalFeature("film", vocabulary_size=9),
            NumericFeature("year", mean=1990.0, std=10.0)]

def rows():
    import numpy as np
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(-1, 7, 64), "film": rng.integers(0, 9, 64),
               "year": rng.normal(1990.0, 10.0, 64).astype("float32")}
    return columns, (columns["user"] > 2).astype("float32")
"""

# As its author would: the package's own module first, before ours and before the registry.
AUTHOR = """
from acme_interactions.blocks import GatedPairs

import numpy as np
import tensorflow as tf
from nfm_tfrs.testing import check_block
from tfrs_registry import get_model

found["check_block"] = error_of(lambda: check_block(GatedPairs))

tf.keras.utils.set_random_seed(0)
columns, labels = rows()
gated = {"name": "acme_gated_pairs", "config": {"initial_gate": 0.8}}
for name, model in {
    "nfm": get_model("nfm", features=features(), interaction="acme-gated-pairs", embedding_dim=4),
    "configured": get_model("nfm", features=features(), interaction=gated, embedding_dim=4),
    "acme_gated_nfm": get_model("acme_gated_nfm", features=features(), embedding_dim=4),
}.items():
    before = model.interaction.gate.numpy()
    model.compile(tf.keras.optimizers.Adam(0.05))
    model.fit(tf.data.Dataset.from_tensors((columns, labels)), verbose=0)
    model.save(f"{name}.keras")
    np.save(f"{name}.npy", model(columns).numpy())
    found[name] = {
        "type": type(model).__name__,
        "block": type(model.interaction).__module__,
        "provider": model.get_config()["interaction"]["provider"],
        "gate": before.tolist(),
        "gate moved": bool((model.interaction.gate.numpy() != before).all()),
    }
"""

USER = """
from importlib import metadata

import tfrs_registry

found["names"] = [tfrs_registry.list_blocks("acme*"), tfrs_registry.list_models("acme*")]
found["tagged"] = [
    tfrs_registry.list_blocks(tags=["gating", "pair-sum"]),
    tfrs_registry.list_models(tags=["gating", "factorization"]),
]
found["heavy"] = sorted({"tensorflow", "tf_keras", "keras", "numpy"} & set(sys.modules))
found["providers"] = [tfrs_registry.blocks.provider(name) for name in ("acme_gated_pairs", "bi_interaction")]

import acme_interactions, nfm_tfrs
found["files"] = [module.__file__ for module in (acme_interactions, nfm_tfrs, tfrs_registry)]
found["copies"] = [str(d.locate_file("")) for d in metadata.distributions() if d.name.replace("_", "-") == "nfm-tfrs"]
found["imported"] = [name for name in sys.modules if name.startswith("acme_interactions.")]

import numpy as np
columns, _ = rows()
for name in ("nfm", "configured", "acme_gated_nfm"):
    model = nfm_tfrs.load_model(f"{name}.keras")
    found[name] = {
        "equal": bool(np.array_equal(model(columns).numpy(), np.load(f"{name}.npy"))),
        "initial_gate": model.interaction.initial_gate,
    }
"""

# Beside ruin, which does not import, usurper, which claims a name of ours, and left and right, which claim one name.
ROGUES = """
import warnings
import numpy as np
from tfrs_registry import get_model, list_blocks

columns, _ = rows()

def use(interaction):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = get_model("nfm", features=features(), interaction=interaction, embedding_dim=4)
    block = type(model.interaction)
    found[interaction] = {
        "block": f"{block.__module__}:{block.__name__}",
        "warnings": [f"{type(w.message).__name__}: {w.message}" for w in caught],
        "finite": bool(np.isfinite(model(columns)).all()),
        "saved as": model.get_config()["interaction"]["name"],
    }

for interaction in ("fm", "bi_interaction", "acme_gated_pairs", "usurped_pairs"):
    use(interaction)
for interaction in ("ruined", "half_ruined", "twin"):
    found[interaction] = error_of(lambda: use(interaction))
found["names"] = list_blocks()
"""

ROGUE_BLOCK = """
from nfm_tfrs import BiInteraction

class Pairs(BiInteraction):
    pass
"""


def command(*arguments, **options):
    """Run a command of this environment or of the fresh one, which nothing set in this process may reach."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("TF_USE_LEGACY_KERAS", "PYTHONPATH")}
    environment = {**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment |= options.pop("variables", {})
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def report(python, script, folder, **variables):
    """What a script found, run away from the checkout."""
    script = f"{COMMON}{script}\nprint(json.dumps(found))"
    return json.loads(command(python, "-c", script, cwd=folder, variables=variables).splitlines()[-1])


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheels of both packages, built from a copy of their sources."""
    folder = tmp_path_factory.mktemp("wheels")
    source = folder / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ("-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    command(sys.executable, *build, source, source / "tests" / "plugin")
    return list(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheels, tmp_path_factory):
    """A fresh environment with both wheels; what they depend on is lent by the running one, last on its path."""
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    command(sys.executable, "-m", "venv", folder)
    command(folder / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", *wheels)
    (site,) = folder.glob("lib/python*/site-packages")
    running = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site / "running_environment.pth").write_text("".join(f"{path}\n" for path in running))
    return folder


@pytest.fixture(scope="module")
def rogues(tmp_path_factory):
    """A folder of packages that break on import or claim a name of others, laid out as if installed."""
    site = tmp_path_factory.mktemp("rogues")

    def install(name, version, targets, **entry_points):
        metadata = site / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        entries = "".join(f"{entry} = {address}\n" for entry, address in entry_points.items())
        (metadata / "entry_points.txt").write_text(f"[tfrs_registry.blocks]\n{entries}")
        specs = [f"{n.upper()} = ComponentSpec(name='{n}', target='{target}', summary='.')" for n, target in targets]
        (site / f"{name}.py").write_text("\n".join(["from tfrs_registry import ComponentSpec", *specs]))
        (site / f"{name}_blocks.py").write_text(ROGUE_BLOCK)

    # Of two blocks, one breaks when its spec is read and one when its class is.
    ruined = {"ruined": "ruin_blocks:RUINED", "half_ruined": "ruin:HALF_RUINED"}
    install("ruin", "0.3", [("half_ruined", "ruin_blocks:Pairs")], **ruined)
    (site / "ruin_blocks.py").write_text("raise OSError('libruin.so.2: cannot open shared object file')\n")
    usurped = [("fm", "usurper_blocks:Pairs"), ("usurped_pairs", "usurper_blocks:Pairs")]
    install("usurper", "6.6", usurped, fm="usurper:FM", usurped_pairs="usurper:USURPED_PAIRS")
    install("left", "1.0", [("twin", "left_blocks:Pairs")], twin="left:TWIN")
    install("right", "2.0", [("twin", "right_blocks:Pairs")], twin="right:TWIN")
    return site


@pytest.fixture(scope="module")
def reports(environment, rogues, tmp_path_factory):
    """What the author of the plugin found, then a user of what the author saved; and, meanwhile, one among rogues."""
    python, folder = environment / "bin" / "python", tmp_path_factory.mktemp("away")
    with ThreadPoolExecutor(1) as pool:
        among_rogues = pool.submit(report, python, ROGUES, folder, PYTHONPATH=str(rogues))
        author = report(python, AUTHOR, folder)
        user = report(python, USER, folder)
        return {"author": author, "user": user, "rogues": among_rogues.result()}


def test_our_wheel_holds_our_two_packages_and_nothing_else(wheels):
    (ours,) = (wheel for wheel in wheels if wheel.name.startswith("nfm_tfrs-"))
    with zipfile.ZipFile(ours) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"nfm_tfrs", "tfrs_registry", metadata}
    assert {"nfm_tfrs/py.typed", "tfrs_registry/py.typed"} <= names  # else type checkers pass both over
    sources = [ROOT / "nfm_tfrs", ROOT / "registry" / "tfrs_registry"]
    assert {str(path.relative_to(top.parent)) for top in sources for path in top.rglob("*.py")} <= names


def test_what_runs_is_what_was_installed(reports, environment):
    assert [Path(file).is_relative_to(environment) for file in reports["user"]["files"]] == [True, True, True]


def test_a_second_copy_of_ours_on_the_path_is_no_clash(reports, environment):
    first, *others = map(Path, reports["user"]["copies"])
    assert first.is_relative_to(environment)
    assert others  # the running environment's: without it this shows nothing
    assert not any(copy.is_relative_to(environment) for copy in others)
    theirs, ours = reports["user"]["providers"]
    assert theirs == "acme-interactions 1.2.0"
    assert ours.startswith("nfm-tfrs ")


def test_a_plugin_is_listed_without_importing_tensorflow(reports):
    assert reports["user"]["names"] == [["acme_gated_pairs"], ["acme_gated_nfm"]]
    assert reports["user"]["tagged"] == [["acme_gated_pairs"], ["acme_gated_nfm"]]
    assert reports["user"]["heavy"] == []
    assert reports["user"]["imported"] == ["acme_interactions.specs"]


def test_the_command_lists_a_plugin_with_its_package(environment):
    lines = [line.split() for line in command(environment / "bin" / "tfrs-registry", "list").splitlines()]
    assert ["block", "acme_gated_pairs", "acme-interactions", "1.2.0"] in lines
    assert ["model", "acme_gated_nfm", "acme-interactions", "1.2.0"] in lines
    assert ["block", "bi_interaction", "nfm-tfrs"] in [line[:3] for line in lines]


def test_a_third_party_block_passes_the_conformance_suite(reports):
    assert reports["author"]["check_block"] is None


@pytest.mark.parametrize(
    ("name", "kind", "gate"),
    [("nfm", "NFM", 0.0), ("configured", "NFM", 1.3863), ("acme_gated_nfm", "RankingModel", 0.0)],
)
def test_a_model_takes_a_third_party_block_by_name_and_trains_it(reports, name, kind, gate):
    found = reports["author"][name]
    assert (found["type"], found["block"]) == (kind, "acme_interactions.blocks")
    assert found["provider"] == "acme-interactions 1.2.0"
    assert found["gate"] == pytest.approx([gate] * 4, abs=1e-4)  # logit of initial_gate
    assert found["gate moved"]


@pytest.mark.parametrize("name", ["nfm", "configured", "acme_gated_nfm"])
def test_a_model_with_a_third_party_block_opens_to_the_same_bits_elsewhere(reports, name):
    assert reports["user"][name] == {"equal": True, "initial_gate": 0.8 if name == "configured" else 0.5}


# --- among packages that misbehave -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("bi_interaction", "nfm_tfrs.blocks.bi_interaction:BiInteraction"),
        ("acme_gated_pairs", "acme_interactions.blocks:GatedPairs"),
        ("usurped_pairs", "usurper_blocks:Pairs"),
    ],
)
def test_the_other_names_work_beside_misbehaving_plugins(reports, name, block):
    assert reports["rogues"][name] == {"block": block, "warnings": [], "finite": True, "saved as": name}


@pytest.mark.parametrize(("name", "address"), [("ruined", "ruin_blocks:RUINED"), ("half_ruined", "ruin_blocks:Pairs")])
def test_a_plugin_that_breaks_on_import_is_an_error_for_who_asks_for_it(reports, name, address):
    assert reports["rogues"][name] == [
        "BrokenPluginError",
        f"The block '{name}' of ruin 0.3 cannot be loaded from '{address}': "
        "OSError: libruin.so.2: cannot open shared object file. Repair or remove ruin.",
        "OSError",
    ]


def test_a_plugin_cannot_take_a_name_of_ours_and_is_named(reports):
    found = reports["rogues"]["fm"]
    assert found["block"] == "nfm_tfrs.blocks.fm:FM"
    (warning,) = found["warnings"]
    assert warning.startswith("PluginWarning: usurper 6.6 also offers the block 'fm'; the built-in one of nfm-tfrs ")
    assert found["finite"]
    assert found["saved as"] == "fm"


def test_one_name_of_two_plugins_is_an_error_that_names_both(reports):
    kind, message, _ = reports["rogues"]["twin"]
    assert kind == "NameClashError"
    assert message == "The block 'twin' is offered by left 1.0 and right 2.0; remove all but one of them."


def test_every_name_that_is_claimed_is_listed_once(reports):
    names = reports["rogues"]["names"]
    assert [names.count(name) for name in ("fm", "ruined", "half_ruined", "twin", "usurped_pairs")] == [1] * 5
