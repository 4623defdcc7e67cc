"""The README's table of blocks is what the specs and classes say."""

from pathlib import Path

import pytest
from lib.spec_table import spec_table
from tables import TABLES, markers

from nfm_tfrs import specs

README = Path(__file__).parents[2] / "README.md"
SPECS = {name: spec for name, spec in vars(specs).items() if name.endswith(("_MODEL", "_BLOCK"))}


def test_the_readme_has_the_table_that_is_generated() -> None:
    opening, closing = markers("specs")
    written = README.read_text().partition(opening)[2].partition(closing)[0]
    assert written.strip() == TABLES["specs"]().strip()


def test_a_row_has_the_formula_the_star_and_the_models_of_its_block() -> None:
    lines = spec_table().splitlines()
    assert len(lines) == 2 + sum(name.endswith("_BLOCK") for name in SPECS)
    assert "| `fm` * | Σ_{i<j} ⟨v_i, v_j⟩ in linear time | `fm`, `deepfm` |" in lines
    assert r"| `logarithmic` | Π_i \|v_i\|^w_ij, learnt powers | `afn` |" in lines
    assert "| `outer_product` | Σ v_i v_jᵀ over all i and j (OPNN) |  |" in lines


@pytest.mark.parametrize("name", SPECS)
def test_every_component_says_its_formula_in_one_line(name: str) -> None:
    formula = SPECS[name].formula
    assert formula == formula.strip()
    assert formula.isprintable()
    assert 0 < len(formula) <= 110
