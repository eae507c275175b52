"""What this package adds to the time of ``import hyperspy.api``.

Runs that import with and without the package's entry points, in turn, each in a fresh
interpreter, and reads ``-X importtime``. "own" is the time of importing the package
itself, which the noise of the whole import does not reach; it must stay below 50 ms.

    python benchmarks/import_time.py [pairs]
"""

import subprocess
import sys
from statistics import median

from prettytable import PrettyTable

# Both import importlib.metadata beforehand: else its time would count in one of them.
CODE = """
import importlib.metadata
installed = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **selection: importlib.metadata.EntryPoints(
    e for e in installed(**selection) if not e.value.startswith("{hidden}")
)
import hyperspy.api
"""
WITH, WITHOUT = CODE.format(hidden="nothing"), CODE.format(hidden="exspy_deepdeconv")


def cumulative_ms(code):
    """Cumulative import time of every module that `code` imports, in ms."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (line.split("|") for line in process.stderr.splitlines() if line.count("|") == 2)
    return {
        name.strip(): int(cumulative) / 1e3
        for _, cumulative, name in lines
        if cumulative.strip().isdigit()
    }


def main(pairs=10):
    """Print one row a pair, and the medians."""
    cumulative_ms(WITH), cumulative_ms(WITHOUT)  # fill the file system's cache
    rows = []
    for _ in range(pairs):
        with_plugin, without = cumulative_ms(WITH), cumulative_ms(WITHOUT)
        if "exspy_deepdeconv" not in with_plugin:
            sys.exit("exspy_deepdeconv is not installed: its entry points were not loaded")
        totals = without["hyperspy.api"], with_plugin["hyperspy.api"]
        rows.append((*totals, totals[1] - totals[0], with_plugin["exspy_deepdeconv"]))

    table = PrettyTable(["", "without (ms)", "with (ms)", "difference (ms)", "own (ms)"])
    table.float_format, table.align = ".1", "r"
    table.add_rows([(i, *row) for i, row in enumerate(rows, start=1)])
    table.add_row(("median", *map(median, zip(*rows, strict=True))))
    print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
