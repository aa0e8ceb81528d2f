"""Deterministic choices that depend on names alone: the same on every machine, host and Python version."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar('T')


def stable_hash(*parts: object) -> int:
    """Returns 64 bits of the SHA-256 of the parts' texts; the parts (1, 23) and (12, 3) differ."""
    text = '\x1f'.join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big')


def choose(options: Sequence[T], *parts: object) -> T:
    """Picks the option that belongs to these parts, each option equally often over many parts."""
    return options[stable_hash(*parts) % len(options)]


def rng(*parts: object) -> random.Random:
    """Returns a generator of its own for these parts."""
    return random.Random(stable_hash(*parts))
