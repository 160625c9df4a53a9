"""Batches on a Ray cluster of two nodes, one of which is killed: the same outcomes as here, each row once."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import clmsda
from half_tissue import Ball, lung, save
from pool_tasks import ready

from clmsda.batch import BatchError, place, read_table, run
from clmsda.images import write_image

pytest.importorskip("ray", reason="Ray is not installed: make test-cluster does it")

from ray.cluster_utils import Cluster

from clmsda.batch.cluster import connected

pytestmark = pytest.mark.timeout(900)  # Ray's processes take long to start where others work

BALL: Ball = ((0.0, 0.0, 0.0), 24.0)
ROWS = 40


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A head with one processor, whose processes find the modules of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # on a busy machine 15, which is usual, is next to nothing
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Cluster:
    """It, and a second node with a processor."""
    if not head.worker_nodes:
        head.add_node(num_cpus=1)
    return head


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of good rows but one, and a model."""
    folder = tmp_path_factory.mktemp("inputs")
    write_image(lung(BALL, shape=(40, 40, 40), spacing_mm=(2, 2, 2)), folder / "ct.nii.gz")
    save(folder / "half.safetensors")
    lines = [f'case-{number:02},{"no" if number == 5 else "ct"}.nii.gz,"{number / 10},0,0"' for number in range(ROWS)]
    (folder / "table.csv").write_text("\n".join(["name,ct,point", *lines]) + "\n")
    return folder


def command(inputs: Path, out: Path, cluster: Cluster) -> list[str]:
    return [sys.executable, "-m", "clmsda", "batch", str(inputs / "table.csv"), "--out", str(out), "--no-preview",
            "--model", str(inputs / "half.safetensors"), "--ray", cluster.address]  # fmt: skip


def made(out: Path) -> dict[str, int]:
    """The rows with an outcome, and when each was made."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("cases/case-*/outcome.json")}


def measured(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf8", newline="") as file:
        return [{key: text for key, text in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def wait_for(out: Path, count: int, process: subprocess.Popen[str]) -> dict[str, int]:
    deadline = time.monotonic() + 200
    while len(found := made(out)) < count and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert len(found) >= count, process.communicate()
    return found


def test_a_node_is_killed_in_the_middle(cluster: Cluster, inputs: Path, tmp_path: Path) -> None:
    """Nothing is lost, nothing done twice, and all is as without a cluster."""
    there = subprocess.Popen(command(inputs, tmp_path / "there", cluster), stdout=-1, stderr=-1, text=True)
    kept = wait_for(tmp_path / "there", 15, there)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    said, errors = there.communicate(timeout=250)
    assert there.returncode == 1 and f"{ROWS - 1} of {ROWS} done" in said, errors
    after = made(tmp_path / "there")
    assert len(after) == ROWS and {name: after[name] for name in kept} == kept
    run(read_table(inputs / "table.csv"), tmp_path / "here", model=str(inputs / "half.safetensors"))
    assert measured(tmp_path / "there") == measured(tmp_path / "here")
    assert [row["status"] for row in measured(tmp_path / "here")].count("failed") == 1


def test_the_command_is_killed_and_goes_on(cluster: Cluster, inputs: Path, tmp_path: Path) -> None:
    first = subprocess.Popen(command(inputs, tmp_path / "out", cluster), stdout=-1, stderr=-1, text=True)
    wait_for(tmp_path / "out", 5, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = made(tmp_path / "out")
    done = subprocess.run(command(inputs, tmp_path / "out", cluster), capture_output=True, text=True)
    assert done.returncode == 1 and f"{ROWS - 1} of {ROWS} done" in done.stdout, done.stderr
    after = made(tmp_path / "out")
    assert len(after) == ROWS and {name: after[name] for name in kept} == kept


def test_workers_that_die_are_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """One dies once, one at whatever process takes it; the others' results are all there, from both nodes."""
    tasks = [(number, str(tmp_path)) for number in range(20)]
    with connected(cluster.address, "cpu") as spread:
        found = list(spread(tasks, None, ready, lambda task: -task[0]))
        assert sorted(found) == sorted([-7, *(number for number in range(20) if number != 7)])
        with pytest.raises(RuntimeError, match="ValueError: wrong"):
            list(spread([(-1, str(tmp_path))], 1, ready, lambda task: 0))


def test_an_address_takes_the_place_of_a_shared_folder(cluster: Cluster, inputs: Path, tmp_path: Path) -> None:
    """Through fsspec, also what the rows name: files are copied, results are put there."""
    (tmp_path / "table.csv").write_text(
        f'name,ct,point\none,{(inputs / "ct.nii.gz").as_uri()},"0,0,0"\ntwo,{(inputs / "no.nii.gz").as_uri()},"0,0,0"\n'
    )
    table, out = place((tmp_path / "table.csv").as_uri()), place((tmp_path / "out").as_uri())
    outcomes = run(read_table(table), out, model=str(inputs / "half.safetensors"), ray=cluster.address)
    assert [one.status for one in outcomes] == ["done", "failed"] and "no.nii.gz" in outcomes[1].reason
    assert (tmp_path / "out" / "cases" / "one" / "preview.png").is_file()
    before = made(tmp_path / "out")
    again = run(read_table(table), out, model=str(inputs / "half.safetensors"), ray=cluster.address)
    assert [(one.name, one.reason, one.seconds) for one in again] == [
        (one.name, one.reason, one.seconds) for one in outcomes
    ]
    assert made(tmp_path / "out") == before and (tmp_path / "out" / "results.html").is_file()


def test_a_folder_that_a_node_does_not_see(cluster: Cluster) -> None:
    from clmsda.batch.outcomes import Folder

    def start() -> None:
        Folder(Path("/nowhere")).check({})

    with connected(cluster.address, "cpu") as spread, pytest.raises(BatchError, match=r"/nowhere, found none"):
        list(spread([1], 1, start, lambda task: 0))


@pytest.mark.parametrize(
    ("address", "match"),
    [("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9"), ("somewhere", "expected --ray HOST:PORT")],
)
def test_an_address_that_does_not_answer(inputs: Path, tmp_path: Path, address: str, match: str) -> None:
    began = time.monotonic()
    done = clmsda("batch", inputs / "table.csv", "--out", tmp_path / "out", "--ray", address)
    assert done.returncode == 2 and match in done.stderr and done.stderr.count("\n") == 1
    assert time.monotonic() - began < 30 and not (tmp_path / "out").exists()
