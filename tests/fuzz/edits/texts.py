"""Damage to text, and to the text that NRRD, MetaImage and NumPy files begin with: numbers, words, lines, cells."""

from __future__ import annotations

import csv
import io
import random
import re

from fuzz.cases import Edit, Files

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
WORD = re.compile(rb"[A-Za-z_][A-Za-z_.-]*")
NUMBERS = (
    "0", "1", "-1", "2", "3", "4", "0.5", "-0.0", "1e-300", "1e308", "-1e308", "nan", "inf", "-inf", "1000000000",
    "99999999999999999999", "2147483648", "4294967297", "1e400", "", "x", "1,5", "0x10", "True", "\"1\"", "1.0.0",
)  # fmt: skip
WORDS = (
    "", "short", "double", "float", "uchar", "int", "ushort", "int64", "block", "raw", "gzip", "bzip2", "ascii", "hex",
    "txt", "left-posterior-superior", "right-anterior-superior", "RAS", "scanner-xyz", "none", "???", "RGB-color",
    "list", "vector", "complex", "big", "little", "True", "False", "true", "None", "null", "MET_SHORT", "MET_DOUBLE",
    "MET_CHAR_ARRAY", "MET_LONG_LONG", "LOCAL", "LIST", "missing.raw", "../ct.raw", "/dev/zero", "/dev/null", "%03d.raw",
    "RAI", "a" * 300, "\xe9", "\x00", "''", '"', "{", "[", "\u0000",
)  # fmt: skip
LINES = (
    "", "#", "sizes: 16 16 4", "sizes: 100000 100000 100000", "dimension: 3", "dimension: 17", "type: double",
    "encoding: gzip", "encoding: hex", "space dimension: 2", "space origin: (nan,0,0)", "byte skip: -1", "byte skip: 99999",
    "line skip: 5", "data file: missing.raw", "data file: /dev/zero", "data file: LIST", "space: scanner-xyz-time",
    "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "NDims = 2", "NDims = 0", "DimSize = 100000 100000 100000",
    "DimSize = 16 16", "ElementNumberOfChannels = 3", "ElementSpacing = 0 0 0", "ElementType = MET_DOUBLE",
    "CompressedData = True", "CompressedDataSize = 99999999999", "BinaryDataByteOrderMSB = True", "BinaryData = False",
    "HeaderSize = -1", "HeaderSize = 100", "TransformMatrix = 1 0 0 0 1 0 0 0 0", "ElementDataFile = LIST",
    "ElementDataFile = /dev/zero", "ElementDataFile = missing.raw", "[table]", "a = [[[[", "name = 'again'", "x.y = 1",
    "[[variants]]", "seed = 1979-05-27", "'' = 0", "a,b", '"', '{"epoch": 1}', "{", "1,2,3,4,5,6,7,8,9",
)  # fmt: skip
VALUES = (
    "0", "-1", "1", "1.5", "1e308", "-0.0", "nan", "inf", "true", '""', '"x"', "[]", "[1]", "{}", "{ a = 1 }", "[[]]",
    "99999999999999999999", "1979-05-27", "07:32:00", '"\\u0000"', '"../x"', '"/nowhere"', "[1, 'a', 2.5]", "[nan, inf]",
    "0x7fffffffffffffff", "1e-320", "1000000", "4096", '["oracle", "oracle"]', '{ "a.b" = { c = [] } }', "'U-Net'",
)  # fmt: skip
CELLS = (
    "", " ", "0", "-1", "1", "nan", "inf", "1e308", "[]", "[1]", "[1, 2]", "[1, 2, 3]", "[0, 99999999999]", "null",
    "[null, 1, 2]", '["a", 1, 2]', "[NaN, 0, 0]", "[1e999, 0, 0]", "{}", '{"a": 1}', "../../etc/passwd", "/nowhere", "a/b",
    "..", ".", "CON", "x" * 300, "\xe9", "\x00", "1,2", 'a"b', "a\nb", "case-0", "1e-320", "4", "99999999999999999999",
    "[" * 5000, "[0,[" * 2000 + "]" * 4000, "1" * 5000, "x" * 200_000,
)  # fmt: skip
TEXTUAL = (".nrrd", ".nhdr", ".mha", ".mhd", ".npy", ".json", ".jsonl", ".toml", ".csv")
TABLES = (".toml", ".csv")


def _number(files: Files, path: str, index: int, text: str) -> None:
    """Put other text in the place of a number of the head; a NumPy header keeps its length."""
    _replaced(files, path, NUMBER, index, text)


def _word(files: Files, path: str, index: int, text: str) -> None:
    _replaced(files, path, WORD, index, text)


def _line(files: Files, path: str, number: int, what: str, text: str = "") -> None:
    """Remove, double, or swap (with the next) a line of the head, or put one before it."""
    head, rest = _split(path, files[path])
    lines = head.split(b"\n")
    if what == "remove":
        del lines[number]
    elif what == "double":
        lines.insert(number, lines[number])
    elif what == "swap":
        lines[number], lines[number + 1] = lines[number + 1], lines[number]
    else:
        lines.insert(number, text.encode("latin-1", "replace"))
    files[path] = b"\n".join(lines) + rest


def _value(files: Files, path: str, number: int, text: str) -> None:
    """What stands behind the = of a TOML's line."""
    lines = files[path].split(b"\n")
    key, equals, _ = lines[number].partition(b"=")
    lines[number] = key + equals + b" " + text.encode()
    files[path] = b"\n".join(lines)


def _deepen(files: Files, path: str, number: int, depth: int) -> None:
    """Brackets within brackets as the value of a TOML's line."""
    _value(files, path, number, "[" * depth + "]" * depth)


def _cell(files: Files, path: str, row: int, column: int, text: str) -> None:
    rows = list(csv.reader(io.StringIO(files[path].decode("utf8"), newline="")))
    if column < len(rows[row]):
        rows[row][column] = text
    else:
        rows[row].append(text)
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    files[path] = written.getvalue().encode("utf8")


def _column(files: Files, path: str, column: int) -> None:
    """Remove a column."""
    rows = list(csv.reader(io.StringIO(files[path].decode("utf8"), newline="")))
    written = io.StringIO(newline="")
    csv.writer(written).writerows([row[:column] + row[column + 1 :] for row in rows])
    files[path] = written.getvalue().encode("utf8")


OPERATIONS = {
    "number": _number,
    "word": _word,
    "line": _line,
    "value": _value,
    "deepen": _deepen,
    "cell": _cell,
    "column": _column,
}


def _split(path: str, data: bytes) -> tuple[bytes, bytes]:
    """The text that a file begins with, and what follows."""
    if path.endswith(".nrrd"):
        end = data.find(b"\n\n")
        return (data[:end], data[end:]) if end >= 0 else (data, b"")
    if path.endswith(".mha"):
        end = data.find(b"\n", data.find(b"ElementDataFile"))
        return (data[:end], data[end:]) if end >= 0 else (data, b"")
    if path.endswith(".npy"):
        return data[:128], data[128:]
    return data, b""


def _replaced(files: Files, path: str, pattern: re.Pattern[bytes], index: int, text: str) -> None:
    head, rest = _split(path, files[path])
    found = list(pattern.finditer(head))[index]
    changed = head[: found.start()] + text.encode("utf8", "replace") + head[found.end() :]
    if path.endswith(".npy"):  # else the length in front of the header is wrong, which `flip` tries
        changed = changed.rstrip(b" \n")[:127].ljust(127) + b"\n"
    files[path] = changed + rest


def draw(rng: random.Random, files: Files) -> Edit | None:
    path = rng.choice(sorted(path for path in files if path.endswith(TEXTUAL)) or [""])
    if not path:
        return None
    head, _ = _split(path, files[path])
    if path.endswith(TABLES) and rng.random() < 0.6:
        return _draw_cell(rng, path, head) if path.endswith(".csv") else _draw_value(rng, path, head)
    how = rng.random()
    numbers, words = len(NUMBER.findall(head)), len(WORD.findall(head))
    if how < 0.4 and numbers:
        return ["number", path, rng.randrange(numbers), rng.choice(NUMBERS)]
    if how < 0.65 and words:
        return ["word", path, rng.randrange(words), rng.choice(WORDS)]
    line = rng.randrange(head.count(b"\n") + 1)
    what = rng.choice(("remove", "double", "swap", "before"))
    return ["line", path, line, what, *([rng.choice(LINES)] if what == "before" else [])]


def _draw_value(rng: random.Random, path: str, text: bytes) -> Edit | None:
    lines = [number for number, line in enumerate(text.split(b"\n")) if b"=" in line]
    if not lines:
        return None
    if rng.random() < 0.03:
        return ["deepen", path, rng.choice(lines), rng.choice((50, 400, 3000, 100_000))]
    return ["value", path, rng.choice(lines), rng.choice(VALUES)]


def _draw_cell(rng: random.Random, path: str, text: bytes) -> Edit:
    rows = max(1, text.count(b"\n"))
    columns = text.partition(b"\n")[0].count(b",") + 1
    if rng.random() < 0.1:
        return ["column", path, rng.randrange(columns)]
    row = 0 if rng.random() < 0.1 else rng.randrange(rows)
    return ["cell", path, row, rng.randrange(columns + 1), rng.choice(CELLS)]
