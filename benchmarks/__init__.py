"""Speed against plain alternatives; `python -m benchmarks` prints one table."""

import json
from typing import Any


def settings_of(word: str) -> dict[str, Any]:
    """Read a source, or settings as JSON."""
    return json.loads(word) if word.startswith("{") else {"source": word}
