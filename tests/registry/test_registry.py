"""Look-up by name, with packages that exist only as claims."""

import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tfrs_registry import (
    BrokenPluginError,
    ComponentSpec,
    NameClashError,
    PluginWarning,
    Registry,
    RegistryError,
    UnknownComponentError,
    blocks,
    get_block,
    get_model,
    list_blocks,
    list_models,
    models,
    refresh,
)
from tfrs_registry.discovery import Claim


class Cross:
    def __init__(self, *, depth: int = 1) -> None:
        if depth < 1:
            raise TypeError("depth must be positive")
        self.depth = depth


class Pool:
    pass


class Unregistered:
    pass


def spec(name: str, target: str = "Cross", **values: object) -> ComponentSpec:
    return ComponentSpec(name=name, target=f"{__name__}:{target}", summary="A block.", **values)


CROSS = spec("cross", tags=("deep", "explicit"), paper="Wang 2017")
POOL = spec("pool", "Pool", tags=("deep",))
UNIMPORTABLE = ComponentSpec(name="unimportable", target="no_such_module:Thing", summary="Its class is gone.")
UNCALLABLE = spec("uncallable", "CROSS")
NOT_A_SPEC = "cross"


def claim(name: str, attribute: str = "CROSS", distribution: str = "acme", **values: object) -> Claim:
    return Claim(name=name, value=f"{__name__}:{attribute}", distribution=distribution, version="1.2", **values)


BROKEN = Claim(name="broken", value="no_such_module:SPEC", distribution="ruin", version="0.3")


def registry(*claims: Claim) -> Registry:
    return Registry("tfrs_registry.blocks", discover=lambda group: claims)


def test_names_are_sorted_and_read_no_spec() -> None:
    assert registry(claim("pool", "POOL"), BROKEN, claim("cross")).names() == ["broken", "cross", "pool"]


@pytest.mark.parametrize("pattern", ["cr*", "CR*", "*oss", "[b-d]ross", "cross"])
def test_names_match_a_glob(pattern: str) -> None:
    assert registry(claim("pool", "POOL"), claim("cross")).names(pattern) == ["cross"]


def test_a_glob_folds_hyphens() -> None:
    assert registry(claim("cross_net")).names("cross-*") == ["cross_net"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [(["deep"], ["cross", "pool"]), (["deep", "explicit"], ["cross"]), ("explicit", ["cross"]), (["none"], [])],
)
def test_names_filter_by_all_tags(tags: list[str], expected: list[str]) -> None:
    assert registry(claim("pool", "POOL"), claim("cross")).names(tags=tags) == expected


def test_the_group_is_what_discovery_is_asked_for() -> None:
    asked = []
    Registry("tfrs_registry.models", discover=lambda group: asked.append(group) or ()).names()
    assert asked == ["tfrs_registry.models"]


@pytest.mark.parametrize("name", ["cross_net", "Cross-Net", "CROSS_NET"])
def test_look_up_folds_case_and_hyphen(name: str) -> None:
    found = registry()
    found.register(spec("cross_net"))
    assert found.load(name) is Cross


def test_create_passes_the_configuration_on() -> None:
    assert registry(claim("cross")).create("cross", depth=3).depth == 3


def test_a_type_error_of_the_constructor_comes_through() -> None:
    with pytest.raises(TypeError, match=r"^depth must be positive$"):
        registry(claim("cross")).create("cross", depth=0)


def test_an_unknown_keyword_is_the_class_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        registry(claim("cross")).create("cross", width=3)


def test_name_is_free_for_the_configuration() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'name'"):
        registry(claim("cross")).create("cross", name="layer")


def test_unknown_name_suggests_the_nearest_and_reads_no_spec() -> None:
    with pytest.raises(UnknownComponentError) as caught:
        registry(claim("cross"), BROKEN).spec("Corss")
    assert str(caught.value) == "Unknown block 'Corss'. Did you mean 'cross'? Known: broken, cross."
    assert "no_such_module" not in sys.modules


def test_unknown_name_far_from_all_only_lists() -> None:
    with pytest.raises(UnknownComponentError) as caught:
        registry(claim("cross")).load("zzz")
    assert str(caught.value) == "Unknown block 'zzz'. Known: cross."


def test_unknown_name_where_nothing_is_installed() -> None:
    with pytest.raises(UnknownComponentError, match=r"^Unknown block 'cross'\. Known: none\.$"):
        registry().load("cross")


@pytest.mark.parametrize("error", [UnknownComponentError, BrokenPluginError, NameClashError])
def test_errors_are_lookup_errors_whose_message_is_not_quoted(error: type[RegistryError]) -> None:
    assert issubclass(error, RegistryError)
    assert issubclass(error, LookupError)
    assert str(error("one 'line'")) == "one 'line'"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            BROKEN,
            "The block 'broken' of ruin 0.3 cannot be loaded from 'no_such_module:SPEC': "
            "ModuleNotFoundError: No module named 'no_such_module'. Repair or remove ruin.",
        ),
        (
            claim("missing", "MISSING"),
            f"The block 'missing' of acme 1.2 cannot be loaded from '{__name__}:MISSING': "
            f"AttributeError: module '{__name__}' has no attribute 'MISSING'. Repair or remove acme.",
        ),
        (
            claim("cross", "NOT_A_SPEC"),
            f"The block 'cross' of acme 1.2 cannot be loaded from '{__name__}:NOT_A_SPEC': "
            "TypeError: expected a ComponentSpec, found str. Repair or remove acme.",
        ),
        (
            claim("crossing"),
            f"The block 'crossing' of acme 1.2 cannot be loaded from '{__name__}:CROSS': "
            "ValueError: the spec is named 'cross'. Repair or remove acme.",
        ),
        (
            claim("Cross-Net!"),
            "acme 1.2 calls a block 'Cross-Net!', but a name matches [a-z][a-z0-9_]*; ask its authors to rename it.",
        ),
    ],
    ids=["no module", "no attribute", "not a spec", "another name", "malformed name"],
)
def test_a_broken_plugin_is_an_error_when_used_and_a_warning_in_lists(broken: Claim, message: str) -> None:
    found = registry(broken, claim("pool", "POOL"))
    with pytest.raises(BrokenPluginError) as caught:
        found.spec(broken.name)
    assert str(caught.value) == message
    assert found.load("pool") is Pool
    with pytest.warns(PluginWarning) as warned:
        assert found.names(tags=["deep"]) == ["pool"]
    assert [str(warning.message) for warning in warned] == [f"Left out of the list: {message}"]


def test_a_plugin_that_leaves_the_process_on_import_is_only_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaver.py").write_text("import sys; sys.exit('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BrokenPluginError, match=r"of leaver 0\.1 cannot be loaded .* SystemExit: no licence"):
        registry(Claim(name="left", value="leaver:SPEC", distribution="leaver", version="0.1")).spec("left")


def test_the_cause_of_a_broken_plugin_is_chained() -> None:
    with pytest.raises(BrokenPluginError) as caught:
        registry(BROKEN).spec("broken")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unimportable", "'no_such_module:Thing': ModuleNotFoundError: No module named 'no_such_module'."),
        ("uncallable", f"'{__name__}:CROSS': TypeError: expected a class, found ComponentSpec"),
    ],
)
def test_a_class_that_cannot_be_loaded_names_its_package(name: str, reason: str) -> None:
    found = registry(claim(name, name.upper()))
    assert found.spec(name).name == name
    with pytest.raises(BrokenPluginError) as caught:
        found.create(name)
    assert str(caught.value).startswith(f"The block '{name}' of acme 1.2 cannot be loaded from {reason}")
    assert caught.value.__cause__ is not None


def test_a_malformed_name_is_not_listed_and_does_not_disturb_a_good_one() -> None:
    assert registry(claim("Cross", distribution="sloppy"), claim("cross")).load("cross") is Cross
    assert registry(claim("Cross", distribution="sloppy")).names() == []


@pytest.mark.parametrize("seed", range(3))
def test_a_built_in_wins_in_any_order_and_the_claimant_is_named(seed: int) -> None:
    claims = [claim("pool", "POOL", "home", builtin=True), claim("pool", "CROSS"), claim("pool", "CROSS", "rival")]
    random.Random(seed).shuffle(claims)
    with pytest.warns(PluginWarning) as warned:
        assert registry(*claims).load("pool") is Pool
    assert sorted(str(warning.message) for warning in warned) == [
        "acme 1.2 also offers the block 'pool'; the built-in one of home 1.2 is used.",
        "rival 1.2 also offers the block 'pool'; the built-in one of home 1.2 is used.",
    ]


@pytest.mark.parametrize("providers", [("acme", "rival"), ("rival", "acme")])
def test_two_third_parties_on_one_name_are_an_error_when_used(providers: tuple[str, str]) -> None:
    found = registry(*(claim("cross", distribution=name) for name in providers), claim("pool", "POOL"))
    assert found.names() == ["cross", "pool"]
    assert found.load("pool") is Pool
    with pytest.raises(NameClashError) as caught:
        found.load("cross")
    assert str(caught.value) == "The block 'cross' is offered by acme 1.2 and rival 1.2; remove all but one of them."


def test_the_environment_is_checked_before_a_class_is_imported_and_not_before_a_spec() -> None:
    def refuse() -> None:
        raise ImportError("not now")

    found = Registry("tfrs_registry.blocks", discover=lambda group: [claim("cross")], before_load=refuse)
    assert found.spec("cross") is CROSS
    with pytest.raises(ImportError, match=r"^not now$"):
        found.load("cross")
    with pytest.raises(UnknownComponentError):
        found.load("zzz")


def test_refresh_looks_again_and_keeps_registrations() -> None:
    installed = [claim("cross")]
    found = Registry("tfrs_registry.blocks", discover=lambda group: list(installed))
    found.register(POOL)
    assert found.names() == ["cross", "pool"]
    installed.append(claim("late"))
    assert found.names() == ["cross", "pool"]
    found.refresh()
    assert found.names() == ["cross", "late", "pool"]


def test_register_offers_a_component_and_may_be_repeated() -> None:
    found = registry(claim("cross"))
    found.register(POOL)
    found.register(spec("pool", "Pool"))
    assert found.load("pool") is Pool
    assert found.spec("pool").tags == ()
    assert found.provider("pool") == "this process"


def test_register_refuses_a_name_whose_package_is_broken() -> None:
    with pytest.raises(NameClashError, match=r"^The block 'pool' already belongs to acme 1\.2 "):
        registry(claim("pool", "Pool")).register(POOL)  # its entry point refers to the class, not to a spec


@pytest.mark.parametrize("builtin", [True, False])
def test_register_refuses_a_name_that_is_installed(builtin: bool) -> None:
    found = registry(claim("pool", "POOL", builtin=builtin))
    with pytest.raises(NameClashError) as caught:
        found.register(spec("pool"))
    assert str(caught.value) == (
        f"The block 'pool' already belongs to acme 1.2 ({__name__}:POOL); choose another name."
    )
    assert found.load("pool") is Pool


def test_register_refuses_another_target_under_the_same_name() -> None:
    found = registry()
    found.register(POOL)
    with pytest.raises(NameClashError) as caught:
        found.register(spec("pool", "Cross"))
    assert str(caught.value) == (
        f"The block 'pool' already belongs to this process ({__name__}:Pool); choose another name."
    )


def test_a_registration_and_a_later_install_clash() -> None:
    installed: list[Claim] = []
    found = Registry("tfrs_registry.blocks", discover=lambda group: list(installed))
    found.register(CROSS)
    installed.append(claim("cross"))
    found.refresh()
    with pytest.raises(NameClashError, match=r"is offered by acme 1\.2 and this process;"):
        found.load("cross")


def test_provider_names_the_package_without_importing_it() -> None:
    assert registry(BROKEN).provider("Broken") == "ruin 0.3"


def test_name_of_finds_a_class_by_its_address() -> None:
    found = registry(BROKEN, claim("pool", "POOL"), claim("unimportable", "UNIMPORTABLE"))
    assert found.name_of(Pool) == "pool"
    assert found.name_of(Unregistered) is None


def test_name_of_finds_a_class_that_was_defined_again() -> None:
    earlier = type("Pool", (), {"__module__": __name__})  # as after a notebook cell was run twice
    assert registry(claim("pool", "POOL")).name_of(earlier) == "pool"


def test_name_of_finds_a_class_by_another_address_of_it() -> None:
    found = registry(claim("unimportable", "UNIMPORTABLE"))
    found.register(ComponentSpec(name="scrambler", target=f"{__name__}:scramble", summary="An alias."))
    assert found.name_of(random.Random) == "scrambler"


scramble = random.Random


def test_check_loads_everything_and_reports_each() -> None:
    found = registry(claim("pool", "POOL"), BROKEN, claim("Bad!"))
    assert [(name, type(error)) for name, error in found.check()] == [
        ("bad!", BrokenPluginError),
        ("broken", BrokenPluginError),
        ("pool", type(None)),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Cross"}, r"^A name matches \[a-z\]\[a-z0-9_\]\*; received 'Cross'\.$"),
        ({"name": "1cross"}, r"received '1cross'\.$"),
        ({"target": "module.Cross"}, r"^A target is 'module:attribute'; received 'module.Cross' for 'cross'\.$"),
        ({"tags": "deep"}, r"^Tags are a tuple of words; received 'deep' for 'cross'\.$"),
    ],
)
def test_a_spec_of_the_wrong_form_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComponentSpec(**{"name": "cross", "target": "module:Cross", "summary": "A block.", **values})


def test_the_built_ins_are_installed() -> None:
    assert {"nfm", "ranking"} <= set(list_models())
    assert "nfm" in list_models("*nfm*", tags=["factorization"])
    assert "bi_interaction" in list_blocks("bi-*")
    assert "bi_interaction" in list_blocks(tags=["pair-sum"])


@pytest.mark.parametrize(("get", "kind"), [(get_model, "model"), (get_block, "block")])
def test_the_front_desk_says_which_kind_is_unknown(get: object, kind: str) -> None:
    with pytest.raises(UnknownComponentError, match=f"^Unknown {kind} 'nothing_like_it'"):
        get("nothing_like_it")


@pytest.fixture
def _forget_registrations() -> Iterator[None]:
    yield
    for found in (models, blocks):
        found._local.clear()


@pytest.mark.usefixtures("_forget_registrations")
def test_the_front_desk_serves_what_was_registered() -> None:
    blocks.register(replace(CROSS, name="local_cross"))
    refresh()
    assert "local_cross" in list_blocks()
    assert get_block("local_cross", depth=2).depth == 2
