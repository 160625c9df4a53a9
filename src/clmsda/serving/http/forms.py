"""A form with files (multipart/form-data), written to disk as it comes: memory holds no more than a piece of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from clmsda.serving.http.bodies import BadRequest

MOST_HEADER = 1 << 13
MOST_FIELDS = 1 << 20
"""Bytes of all fields that are no files."""


class Form:
    """Files go into `folder`, numbered in their order. named: makes a file's name of the client's; most: files.

    names: what the form calls the files in `paths`. fields: what it holds besides. Raises BadRequest for what is no
    form.
    """

    def __init__(self, content_type: str, folder: Path, named: Callable[[str], str], most: int) -> None:
        self.folder, self.paths = folder, list[Path]()
        self.names, self.fields = list[str](), dict[str, bytes]()
        self._named, self._most = named, most
        self._file: BinaryIO | None = None
        self._name, self._held = "", 0
        self._header, self._field, self._value = b"", b"", b""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise BadRequest("expected one file as the body, or multipart/form-data with several")
        folder.mkdir()
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._open,
                    "on_part_data": self._data,
                    "on_part_end": self.close,
                },
            )
        except FormParserError as error:
            raise BadRequest("the form's boundary is none") from error

    def take(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadRequest("the form is damaged: send it again") from error

    def file(self, name: str) -> Path | None:
        """The first file that the form calls so."""
        return next((path for path, called in zip(self.paths, self.names, strict=True) if called == name), None)

    def end(self, *, least: int = 1) -> None:
        """Raises BadRequest for a form that does not end, or holds less than `least` files."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise BadRequest("the form breaks off: send it again") from error
        if self._file is not None:
            raise BadRequest("the form breaks off: send it again")
        if len(self.paths) < least:
            raise BadRequest("the form holds no file")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._header = self._field = self._value = b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field = self._short(self._field + data[start:end])

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value = self._short(self._value + data[start:end])

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._header = self._value
        self._field = self._value = b""

    def _open(self) -> None:
        """A part without a file name is a field of the form."""
        _, options = parse_options_header(self._header)
        name = options.get(b"filename")
        self._name = options.get(b"name", b"").decode("utf8", "replace")
        if name is None:
            self.fields[self._name] = b""
            return
        if len(self.paths) >= self._most:
            raise BadRequest(f"the form holds more than {self._most:,} files: send a .zip of one series")
        path = self.folder / f"{len(self.paths) + 1:06d}-{self._named(name.decode('utf8', 'replace'))}"
        self._file = path.open("xb")  # closed at the end of the part, and by close()
        self.paths.append(path)
        self.names.append(self._name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._held += end - start
        if self._held > MOST_FIELDS:
            raise BadRequest("the fields of the form are too long")
        self.fields[self._name] += data[start:end]

    @staticmethod
    def _short(text: bytes) -> bytes:
        if len(text) > MOST_HEADER:
            raise BadRequest("a header of the form is too long")
        return text
