"""Whether an NRRD says in which space its voxels lie: ITK takes any that it does not know for LPS, without a word.

Format: http://teem.sourceforge.net/nrrd/format.html, "Orientation information".
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from clmsda.images.errors import UnreadableFile

KNOWN = {
    "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps",
}  # fmt: skip
"""What ITK turns into LPS; the same with -time has a fourth axis."""
HEADER_BYTES = 1 << 20

log = logging.getLogger(__name__)


def check_space(path: Path) -> None:
    """Raise UnreadableFile for a space without the patient's sides; warn where there is none. OSError."""
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    text = re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0].decode("latin-1")
    found = re.search(r"^space:\s*(.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    if found is None:
        log.warning("%s does not say where its voxels lie (no space): sides are assumed (LPS)", path)
    elif found[1].strip('"').lower().removesuffix("-time") not in KNOWN:
        raise UnreadableFile(
            f"{path} lies in the space {found[1]!r}, which does not say where the patient's left is; expected "
            "left-posterior-superior or the like: correct its header"
        )
