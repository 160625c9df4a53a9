"""One file of tensors and texts: whole for whoever reads it, at any moment."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clmsda import tensor_files
from clmsda.tensor_files import DamagedFile


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(3), "empty": np.zeros((0, 4))}
    tensor_files.write(tmp_path / "x", tensors | {"shared": tensors["a"]}, {"header": '{"é": [1, 2]}'})
    file = tensor_files.read(tmp_path / "x")
    assert file.texts == {"header": '{"é": [1, 2]}'}
    assert all(np.array_equal(file.tensors[name], tensor) for name, tensor in tensors.items())
    assert np.array_equal(file.tensors["shared"], tensors["a"])
    assert file.digest == tensor_files.read(tmp_path / "x").digest


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, b"not tensors at all", b"PK\x03\x04zip"])
def test_anything_else_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DamagedFile):
        tensor_files.read(tmp_path / "x")


def test_every_truncation_is_damaged(tmp_path: Path) -> None:
    tensor_files.write(tmp_path / "x", {"a": np.arange(5.0)}, {"h": "text"})
    whole = (tmp_path / "x").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(DamagedFile):
            tensor_files.read(tmp_path / "x")


REWRITE = """
import sys
import numpy as np
from pathlib import Path
from clmsda import tensor_files
for number in range(1, int(sys.argv[2]) + 1):
    tensors = {"a": np.full(number % 50 + 1, float(number))}
    tensor_files.write(Path(sys.argv[1]), tensors, {"size": "9" * (number % 7)})
"""
"""Replaces a file again and again, with another number and another size each time."""


def test_a_reader_never_sees_half_of_a_file_that_another_process_replaces(tmp_path: Path) -> None:
    path, last = tmp_path / "x", 500
    tensor_files.write(path, {"a": np.zeros(1)}, {})
    writer = subprocess.Popen([sys.executable, "-c", REWRITE, str(path), str(last)])
    seen = {0.0}
    while writer.poll() is None or last not in seen:
        values = tensor_files.read(path).tensors["a"]
        assert len(np.unique(values)) == 1
        seen.add(float(values[0]))
        assert writer.poll() in (None, 0)
    assert len(seen) > 10


def test_the_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    tensor_files.write(path, {"x": np.arange(1000)}, {"about": 'an ä and a "quote"'})
    assert tensor_files.read_texts(path) == tensor_files.read(path).texts == {"about": 'an ä and a "quote"'}
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], b"\xff" * 40, (3).to_bytes(8, "little") + b"[1]"):
        path.write_bytes(damaged)
        with pytest.raises(tensor_files.DamagedFile):
            tensor_files.read_texts(path)
