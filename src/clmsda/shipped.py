"""The models that come with the package, as far as they can be known without loading one: nothing here needs numpy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "second"
DETECTOR = "detector"
CARDS = {"detector": "DETECTOR_CARD.md", "second": "SECOND_MODEL_CARD.md", "shipped": "MODEL_CARD.md"}
_LICENSE = re.compile(r"^\| license \| (?P<spdx>[A-Za-z0-9.-]+)", re.MULTILINE)


def available() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def version(name: str, digest: str) -> str:
    """A model as outputs name it. digest: SHA-256 of its file."""
    return f"{name}@{digest[:12]}"


def license_of(name: str) -> str:
    """The license of a model's weights, as its card gives it: an SPDX identifier."""
    found = _LICENSE.search((WEIGHTS / CARDS[name]).read_text(encoding="utf-8"))
    if found is None:
        raise LookupError(f"{CARDS[name]} names no license")
    return found["spdx"]


def facts(name: str) -> dict[str, str | bool]:
    """Name, version, digest, license and card of a model that comes with the package, and whether it is the default."""
    digest = hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()
    return {
        "name": name,
        "default": name == DEFAULT,
        "version": version(name, digest),
        "sha256": digest,
        "license": license_of(name),
        "card": CARDS[name],
    }
