"""The package is laid out as CONTRIBUTING.md says: a table of modules in rows, imports going up."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exspy_deepdeconv"
USED_BY_ALL = {"_arguments", "__version__"}
ENTRANCES = {"__init__", "__main__"}


def rows():
    """The modules of each row of the table, from top to bottom: ``name`` or ``folder.name``.

    What a row names behind a ``folder/`` lies in it.
    """
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| task | modules")[1].split("\n\n")[0]
    found = []
    for line in table.splitlines():
        folder, row = "", []
        for name in re.findall(r"`(_?[a-z_]+/?)`", line):
            if name.endswith("/"):
                folder = name.replace("/", ".")
            else:
                row.append(folder + name)
        found.append(row)
    return [row for row in found if row]


def folders():
    """The subpackages of which the table lists the modules."""
    return sorted({name.partition(".")[0] for row in rows() for name in row if "." in name})


def row_of(name, numbers):
    """The row of an imported module, or of a name in it; None if it is used by all."""
    if name.partition(".")[0] in USED_BY_ALL:
        return None
    while name not in numbers:
        assert "." in name, f"{name} is in no row"
        name = name.rpartition(".")[0]
    return numbers[name]


def files_of(name):
    path = PACKAGE / name.replace(".", "/")
    return sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imported_with(path):
    """What of the package is imported when this module is, and not in its functions."""
    here = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            start = here[: len(here) + 1 - node.level]
            start += (node.module,) if node.module else ()
            found |= {".".join((*start, alias.name)) for alias in node.names}
    return found


def test_every_module_is_in_one_row_of_the_table():
    listed = sorted(name for row in rows() for name in row)
    modules = {path.stem for path in PACKAGE.glob("*.py")} - ENTRANCES - USED_BY_ALL
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - set(folders())
    parts = {f"{folder}.{path.stem}" for folder in folders() for path in files_of(folder)}
    parts -= {f"{folder}.__init__" for folder in folders()}
    assert listed == sorted(modules | packages | parts)


def test_imports_go_up_the_table():
    numbers = {name: number for number, row in enumerate(rows()) for name in row}
    down = {
        (name, other)
        for name, number in numbers.items()
        for path in files_of(name)
        for other in imported_with(path)
        if (row_of(other, numbers) or 0) > number
    }
    assert not down


@pytest.mark.parametrize("folder", folders())
def test_folders_load_nothing_by_themselves(folder):
    (docstring,) = ast.parse((PACKAGE / folder / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
