"""The files of the package and their syntax trees, read once for all tests that look at them.

One test goes over all files and names those that fail: a test for each file took most of its time to be scheduled.
"""

import ast
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1] / "effxfer"
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def complaints(check: Callable[[Path], Any], files: Sequence[Path] = FILES) -> dict[str, Any]:
    """What a check finds, by file; files without complaints are left out."""
    results = {str(file.relative_to(PACKAGE)): check(file) for file in files}
    return {name: result for name, result in results.items() if result}
