"""What ends a batch before it begins; what is wrong with one row is that row's outcome."""

from __future__ import annotations

from clmsda.errors import InputError


class BatchError(InputError):
    """A table or an output folder that a batch cannot use."""
