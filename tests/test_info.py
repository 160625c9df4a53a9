"""`clmsda info --json`: what is installed, and the models with their licenses, before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from command_line import refused

from clmsda import models, shipped

LIGHT = """
import importlib.metadata, sys
for name in ("numpy", "scipy", "openvino", "torch", "pydicom", "SimpleITK", "matplotlib", "rich.table"):
    sys.modules[name] = None  # what is None here cannot be imported
installed = importlib.metadata.version
def without(name):
    if name in sys.argv[1:]:
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)
importlib.metadata.version = without
from clmsda.cli import main
main(["info", "--json"])
"""


def info(*missing: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", LIGHT, *missing], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_it_needs_nothing_heavy() -> None:
    found = info()
    assert found["clmsda"] == version("clmsda") and found["packages"]["numpy"] == version("numpy")
    assert found["runtimes"] == {name: version(name) for name in ("openvino", "torch")}


def test_models_come_with_the_license_of_their_weights() -> None:
    found = info()
    loaded = {name: models.read(name) for name in models.available()}
    assert [one["name"] for one in found["models"]] == list(loaded)
    assert [one["name"] for one in found["models"] if one["default"]] == [models.DEFAULT]
    for one in found["models"]:
        assert (one["version"], one["sha256"]) == (loaded[one["name"]].version, loaded[one["name"]].digest)
        assert f"| license | {one['license']}" in (shipped.WEIGHTS / one["card"]).read_text()
        assert one["license"] == "Apache-2.0" == found["license"]


def test_what_is_not_installed_is_null() -> None:
    found = info("torch", "scipy")
    assert found["runtimes"]["torch"] is None and found["packages"]["scipy"] is None


def test_it_is_of_no_part() -> None:
    assert "--json is for `clmsda info` alone, found 'model'" in refused("info", "--json", "model")
