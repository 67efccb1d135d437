"""Names that change whenever what they stand for does."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(facts: Any) -> str:
    """Eight hexadecimal digits that change whenever the facts do."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
