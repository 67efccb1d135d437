"""The numbers that the networks inside a model compute with."""

from __future__ import annotations

from typing import Literal

#: Of the networks inside a flow; what they change, and log-determinants, are float32.
Precision = Literal["float32", "bf16"]
