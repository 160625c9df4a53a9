"""The software's name and version, as its outputs carry them: on the lowest floor, so that no room reaches up for them.

It is not part of the package's front door (`clmsda.__version__` asks here), which imports from every floor.
"""

from __future__ import annotations

from functools import cache

SOFTWARE = "clmsda"


@cache
def software_version() -> str:
    """The version of the installed package."""
    from importlib.metadata import version  # slow to import, and rarely asked

    return version(SOFTWARE)


def software() -> str:
    """Name and version, as JSON and pages name what made them."""
    return f"{SOFTWARE} {software_version()}"
