"""The package is laid out as CONTRIBUTING.md says: a table of modules in rows, imports going up."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exspy_deepdeconv"
USED_BY_ALL = {"_arguments"}
ENTRANCES = {"__init__", "__main__"}


def rows():
    """The modules of each row of the table, from top to bottom."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| task | modules |")[1].split("\n\n")[0]
    lines = (line for line in table.splitlines() if "`" in line)
    return [re.findall(r"`(_?[a-z_]+)`", line) for line in lines]


def imported_with(path):
    """Modules of the package that are imported when this one is; not those imported in functions."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.partition(".")[0] for name in names}
    return found


def test_every_module_is_in_one_row_of_the_table():
    listed = sorted(name for row in rows() for name in row)
    modules = {path.stem for path in PACKAGE.glob("*.py")} - ENTRANCES - USED_BY_ALL
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert listed == sorted(modules | packages)


def test_imports_go_up_the_table():
    row_of = {name: number for number, row in enumerate(rows()) for name in row}
    down = {
        (name, other)
        for name in row_of
        if (path := PACKAGE / f"{name}.py").exists()
        for other in imported_with(path) & row_of.keys()
        if row_of[other] > row_of[name]
    }
    assert not down
