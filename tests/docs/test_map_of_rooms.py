"""The map of rooms in CONTRIBUTING.md is the code's: each module stands in it once, and imports only upwards."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "rlhf_lib"
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "accelerate"}


def rooms() -> list[list[str]]:
    """The table's rows, in order: module names such as `ppo`, `labels/` (a folder) or `analysis/cli`."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The map of rooms")[1]
    rows = re.findall(r"(?m)^\| [\w ]+ \| (`[^|]+`) \|", text.split("\n## ")[0])
    return [re.findall(r"`([^`]+)`", row) for row in rows]


def room_of(module: str, table: list[list[str]]) -> int:
    """The number of the row that a module stands in: by its own name, or by its folder's."""
    whole, folder = (
        [n for n, row in enumerate(table) if name in row] for name in (module, module.rpartition("/")[0] + "/")
    )
    found = whole or folder
    assert len(found) == 1, f"{module} stands in {len(found)} rows"
    return found[0]


def imports(module: str) -> set[str]:
    """Modules of rlhf_lib, and names of other packages, that a module imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        ours = [name.removeprefix("rlhf_lib.").replace(".", "/") for name in names if name.startswith("rlhf_lib.")]
        ours += [f"{name}/__init__" for name in ours]
        found |= {name for name in ours if name in MODULES}
        found |= {name.split(".")[0] for name in names if not name.startswith("rlhf_lib")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_room_and_from_rooms_above(module):
    table = rooms()
    mine = room_of(module, table)
    below = [name for name in imports(module) & set(MODULES) if room_of(name, table) > mine]
    assert below == []


def test_the_map_names_no_module_that_is_gone():
    there = set(MODULES) | {f"{module.partition('/')[0]}/" for module in MODULES if "/" in module}
    assert [name for row in rooms() for name in row if name not in there] == []


@pytest.mark.parametrize("room", ["labels", "analysis", "plots", "browse"])
def test_rooms_without_torch_import_nothing_that_imports_it(room):
    waiting, seen = [module for module in MODULES if module.startswith(f"{room}/")], set()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        found = imports(module)
        assert not found & HEAVY, f"{module} imports {found & HEAVY}"
        waiting += [name for name in found & set(MODULES) if name not in seen]
