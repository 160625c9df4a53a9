"""A session's folder: `session.json` and a file per step, each written whole; no name of a patient in it.

What `session.json` names is there: a step's file comes before it and goes after it. The JSON says which CT it is by a
digest of its voxels and their place, so that a folder is never taken for another CT's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clmsda.files import make_folder, replacing
from clmsda.geometry import Volume
from clmsda.measurements import measure
from clmsda.prompts import from_json, to_json
from clmsda.serving.sessions.errors import SessionError
from clmsda.serving.sessions.lesions import Lesion, Step, cropped
from clmsda.version import software

History = list[tuple[Lesion, ...]]
FILE = "session.json"
LONGEST = 100
"""So many changes can be undone."""


def digest(volume: Volume) -> str:
    """What tells a CT from every other: voxels and their place."""
    hashed = hashlib.blake2b(np.ascontiguousarray(volume.voxels).data, digest_size=16)
    hashed.update(np.round(volume.grid.affine, 4).tobytes() + str(volume.grid.shape).encode())
    return hashed.hexdigest()


def save(folder: Path, volume: Volume, history: Sequence[tuple[Lesion, ...]], at: int, ct: str) -> None:
    """Write what is new and the JSON, then drop the files of what can be undone no longer.

    ct: `digest` of the CT. Raises OutputError, OSError.
    """
    make_folder(folder)
    steps = {step.uid: step for lesions in history for lesion in lesions for step in lesion.steps}
    for uid, step in steps.items():
        if not (path := _path(folder, uid)).exists():
            with replacing(path) as temporary:
                temporary.write_bytes(_packed(step.mask, volume))
    kept = {
        "format": 1,
        "software": software(),
        "ct": ct,
        "at": at,
        "steps": {uid: _step(step) for uid, step in steps.items()},
        "history": [[_lesion(one) for one in lesions] for lesions in history],
    }
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(kept), encoding="utf8")
    for path in folder.glob("*.mask"):
        if path.stem not in steps:
            path.unlink(missing_ok=True)


def load(folder: Path, volume: Volume, ct: str) -> tuple[History, int] | None:
    """The history of a folder, and where it stands; None where the folder holds none yet.

    Raises SessionError for a folder of another CT, or one that is damaged.
    """
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(folder) from error
    if not isinstance(kept, dict) or kept.get("format") != 1:
        raise _damaged(folder)
    if kept.get("ct") != ct:
        raise SessionError(f"{folder} holds the lesions of another CT: give another folder, or that CT")
    try:
        steps = {uid: _read_step(folder, uid, record, volume) for uid, record in kept["steps"].items()}
        history = [tuple(_read_lesion(record, steps) for record in lesions) for lesions in kept["history"]]
        at = int(kept["at"])
        history[at]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as error:
        raise _damaged(folder) from error
    return history, at


def _damaged(folder: Path) -> SessionError:
    return SessionError(f"{folder / FILE} is damaged or of a newer clmsda: move the folder away to begin anew")


def _path(folder: Path, uid: str) -> Path:
    return folder / f"{uid}.mask"


def _packed(mask: Volume, volume: Volume) -> bytes:
    """Where the part begins in the CT and how large it is (six int32, little-endian), then its voxels as bits."""
    lower = np.rint(volume.grid.to_index(mask.grid.affine[:3, 3])).astype("<i4")
    return lower.tobytes() + np.array(mask.voxels.shape, "<i4").tobytes() + np.packbits(mask.voxels).tobytes()


def _unpacked(data: bytes, volume: Volume) -> NDArray[np.bool_]:
    """A step's mask on the CT's grid. Raises ValueError where the file does not fit it."""
    lower, shape = np.frombuffer(data[:24], "<i4").reshape(2, 3)
    if (lower < 0).any() or (shape < 1).any() or (lower + shape > volume.grid.shape).any():
        raise ValueError("the mask lies beyond the CT")
    bits = np.unpackbits(np.frombuffer(data[24:], np.uint8), count=int(shape.prod())).reshape(shape)
    whole = np.zeros(volume.grid.shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(lower, shape, strict=True))] = bits
    return whole


def _step(step: Step) -> dict[str, Any]:
    confidence = None if np.isnan(step.confidence) else step.confidence
    said = None if step.said is None else to_json(step.said)
    return {"said": said, "confidence": confidence, "warnings": list(step.warnings)}


def _read_step(folder: Path, uid: str, record: dict[str, Any], volume: Volume) -> Step:
    if not uid.isalnum():
        raise ValueError("a step's name is no name")
    whole = _unpacked(_path(folder, uid).read_bytes(), volume)
    measured = measure(Volume(whole, volume.grid), image=volume) if whole.any() else None
    said = None if record["said"] is None else from_json(record["said"])
    confidence = float("nan") if record["confidence"] is None else float(record["confidence"])
    return Step(said, cropped(whole, volume.grid), measured, confidence, tuple(map(str, record["warnings"])), uid)


def _lesion(lesion: Lesion) -> dict[str, Any]:
    return {
        "label": lesion.label,
        "steps": [step.uid for step in lesion.steps],
        "name": lesion.name,
        "organ": lesion.organ,
        "accepted": lesion.accepted,
    }


def _read_lesion(record: dict[str, Any], steps: dict[str, Step]) -> Lesion:
    found = tuple(steps[uid] for uid in record["steps"])
    if not found:
        raise ValueError("a lesion without a step")
    name, organ = str(record["name"]), str(record["organ"])
    return Lesion(int(record["label"]), found, name, organ, bool(record["accepted"]))
