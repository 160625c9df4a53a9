"""Damage to the structure of JSON: values of another type, missing, too many, too deep; in safetensors, too."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from fuzz.cases import Edit, Files

JSON, TENSORS = ".json", ".safetensors"
INSIDE = "@json"
"""A step into a text that is JSON itself."""
VALUES: tuple[Any, ...] = (
    None, True, False, "", "x", "1", "0", "nan", 0, -1, 1, 2, 0.5, -0.0, 1e308, 1e-320, 10**18, 10**30, -(2**63), 2**31,
    [], {}, [0], [[]], [None], [1, 2], [1, 2, 3], ["a"], {"a": 1}, {"": {}}, float("nan"), float("inf"), "\u0000", "é" * 99,
    "2024-02-30", "2024-01-02", "9999999-01-01", "F64", "F8_E4M3", "BF16", [0, 0], [0, 10**12], [-1, 4], [10**6, 10**6],
    "../../x", "/nowhere",
)  # fmt: skip


def _set(files: Files, path: str, way: list[Any], value: Any) -> None:
    def change(owner: Any, key: Any) -> None:
        owner[key] = value

    _changed(files, path, way, change)


def _unset(files: Files, path: str, way: list[Any]) -> None:
    _changed(files, path, way, lambda owner, key: owner.__delitem__(key))


def _add(files: Files, path: str, way: list[Any], key: str, value: Any) -> None:
    """Add a key to an object, or an entry to a list."""

    def change(owner: Any, last: Any) -> None:
        inner = owner[last]
        if isinstance(inner, list):
            inner.append(value)
        else:
            inner[key] = value

    _changed(files, path, way, change)


def _repeat(files: Files, path: str, way: list[Any], times: int) -> None:
    """Repeat the entries of a list, or the letters of a text."""

    def change(owner: Any, key: Any) -> None:
        owner[key] = owner[key] * times

    _changed(files, path, way, change)


def _sink(files: Files, path: str, way: list[Any], depth: int, kind: str) -> None:
    """Nest a value deeply."""
    opening, closing = ("[", "]") if kind == "list" else ('{"a":', "}")
    marker = "@deep@"
    _set(files, path, way, marker)
    deep = f"{opening * depth}0{closing * depth}".encode()
    quoted = json.dumps(deep.decode())[1:-1].encode()
    head, body, tail = _parts(path, files[path])
    escaped = f'\\"{marker}\\"'.encode()
    body = body.replace(escaped, quoted) if escaped in body else body.replace(f'"{marker}"'.encode(), deep)
    files[path] = _joined(path, head, body, tail)


def _length(files: Files, path: str, value: int) -> None:
    """What a safetensors file says of the length of its header."""
    files[path] = (value % (1 << 64)).to_bytes(8, "little") + files[path][8:]


OPERATIONS = {"set": _set, "unset": _unset, "add": _add, "repeat": _repeat, "sink": _sink, "length": _length}


def _parts(path: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before the JSON, the JSON, and what follows it."""
    if path.endswith(TENSORS):
        length = int.from_bytes(data[:8], "little")
        return data[:8], data[8 : 8 + length], data[8 + length :]
    return b"", data, b""


def _joined(path: str, head: bytes, body: bytes, tail: bytes) -> bytes:
    if path.endswith(TENSORS):
        body += b" " * (-len(body) % 8)
        head = len(body).to_bytes(8, "little")
    return head + body + tail


def _changed(files: Files, path: str, way: list[Any], change: Any) -> None:
    head, body, tail = _parts(path, files[path])
    whole = [json.loads(body)]
    _at(whole, [0, *way], change)
    files[path] = _joined(path, head, json.dumps(whole[0]).encode(), tail)


def _at(owner: Any, way: list[Any], change: Any) -> None:
    key, *rest = way
    if not rest:
        change(owner, key)
    elif rest[0] == INSIDE:
        inner = [json.loads(owner[key])]
        _at(inner, [0, *rest[1:]], change)
        owner[key] = json.dumps(inner[0])
    else:
        _at(owner[key], rest, change)


def _ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(value, dict):
        for key in value:
            yield from _ways(value[key], (*way, key))
    elif isinstance(value, list):
        for number, entry in enumerate(value[:20]):
            yield from _ways(entry, (*way, number))
    elif isinstance(value, str) and value[:1] == "{":
        yield from _ways(json.loads(value), (*way, INSIDE))


def draw(rng: random.Random, files: Files) -> Edit | None:
    path = rng.choice(sorted(path for path in files if path.endswith((JSON, TENSORS))) or [""])
    if not path:
        return None
    if path.endswith(TENSORS) and rng.random() < 0.05:
        return ["length", path, rng.choice((0, 1, 7, 8, 100, 10**6, 1 << 40, (1 << 63) - 1, -1))]
    way = list(rng.choice(list(_ways(json.loads(_parts(path, files[path])[1])))))
    how = rng.random()
    if how < 0.6:
        return ["set", path, way, rng.choice(VALUES)]
    if how < 0.75 and way:
        return ["unset", path, way]
    if how < 0.87:
        return [
            "add",
            path,
            way,
            rng.choice(("x", "", "label", "lesions", "__metadata__", "dtype")),
            rng.choice(VALUES),
        ]
    if how < 0.93:
        return ["repeat", path, way, rng.choice((0, 2, 1000))]
    return ["sink", path, way, rng.choice((30, 300, 3000, 200_000)), rng.choice(("list", "object"))]
