"""nnInteractive's own client, unchanged, over HTTP on loopback, with our model behind it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from half_tissue import Ball, distance, lung, model
from loopback import serving, whole
from starlette.applications import Starlette

from clmsda.geometry import Volume
from clmsda.serving.http import nninteractive, packed
from clmsda.serving.sessions import Desk

remote = pytest.importorskip("nnInteractive.inference.remote", reason="nninteractive-client is not installed")
Client = remote.nnInteractiveRemoteInferenceSession

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)
OTHER: Ball = ((22.0, 0.0, 0.0), 16.0)
HTTP = httpx.Client(timeout=120, trust_env=False)


@pytest.fixture(scope="module")
def ct() -> Volume:
    return lung(ONE, OTHER, spacing_mm=(2.0, 1.5, 1.5), shape=(54, 72, 72))


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(model())
    yield desk
    desk.worker.stop()


@pytest.fixture(scope="module")
def address(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(whole(desk, tmp_path_factory.mktemp("private"))) as address:
        yield address


def begun(address: str, ct: Volume, dtype: type = np.uint8, key: str | None = None) -> Client:
    client = Client(address, api_key=key)
    client.set_image(ct.voxels[None], {"spacing": ct.grid.spacing_mm})
    client.set_target_buffer(np.zeros(ct.grid.shape, dtype))
    client.set_do_autozoom(True)
    return client


def at(ct: Volume, ball: Ball, *shift: int) -> list[int]:
    """The voxel in a ball's middle, shifted by so many voxels."""
    return (np.rint(ct.grid.to_index(ball[0])).astype(int) + (shift or 0)).tolist()


def f1(mask: np.ndarray, ct: Volume, ball: Ball) -> float:
    truth = distance(ct.grid, ball) <= 0
    return float(2 * (truth & (mask > 0)).sum() / (truth.sum() + (mask > 0).sum()))


@pytest.fixture
def client(address: str, ct: Volume) -> Iterator[Client]:
    with begun(address, ct) as client:
        yield client


def test_a_click_gives_the_lesion_and_only_the_box_that_changed(client: Client, ct: Volume) -> None:
    bounds = client.add_point_interaction(at(ct, ONE), include_interaction=True)
    assert f1(client.target_buffer, ct, ONE) > 0.9
    assert np.prod([b - a for a, b in bounds]) < 0.1 * ct.voxels.size
    before = client.target_buffer.copy()
    corrected = client.add_point_interaction(at(ct, ONE, 0, 0, -5), include_interaction=False)
    assert 0 < client.target_buffer.sum() < before.sum() and not client.target_buffer[tuple(at(ct, ONE, 0, 0, -5))]
    assert np.prod([b - a for a, b in corrected]) < np.prod([b - a for a, b in bounds])
    assert client.undo() and (client.target_buffer == before).all()
    assert client.undo() and not client.target_buffer.any()
    assert not client.undo()


def test_the_next_lesion_after_reset_may_be_the_same_one(client: Client, ct: Volume) -> None:
    client.add_point_interaction(at(ct, ONE), include_interaction=True)
    first = client.target_buffer.copy()
    client.reset_interactions()
    assert not client.target_buffer.any() and not client.undo()
    client.add_point_interaction(at(ct, OTHER), include_interaction=True)
    assert f1(client.target_buffer, ct, OTHER) > 0.9
    client.reset_interactions()
    client.add_point_interaction(at(ct, ONE), include_interaction=True)
    assert (client.target_buffer == first).all()


@pytest.mark.parametrize("flat", [None, 0, 1, 2])
def test_a_box_in_space_or_on_any_plane(client: Client, ct: Volume, flat: int | None) -> None:
    where = np.argwhere(distance(ct.grid, OTHER) <= 0)
    bounds = np.stack([where.min(axis=0), where.max(axis=0) + 1], axis=1)
    if flat is not None:
        bounds[flat] = np.array([0, 1]) + at(ct, OTHER)[flat]
    client.add_bbox_interaction((bounds + 0.3).tolist(), include_interaction=True)  # fractions, as napari sends
    assert f1(client.target_buffer, ct, OTHER) > 0.9


def test_prompts_wait_until_they_are_asked_for(client: Client, ct: Volume) -> None:
    assert client.add_point_interaction(at(ct, ONE, 0, 0, -5), include_interaction=False) is None
    assert client._predict() is None, "a point outside alone names no lesion"
    client.add_point_interaction(at(ct, ONE), include_interaction=True, run_prediction=False)
    assert not client.target_buffer.any()
    assert client._predict() is not None
    assert client.target_buffer.any() and not client.target_buffer[tuple(at(ct, ONE, 0, 0, -5))]
    assert client.undo() and not client.target_buffer.any()


def test_a_mask_to_start_from_is_corrected(client: Client, ct: Volume) -> None:
    mask = (distance(ct.grid, OTHER) <= 0).astype(np.uint8)
    client.add_initial_seg_interaction(mask)
    assert (client.target_buffer == mask).all()
    client.add_point_interaction(at(ct, OTHER, 0, 0, 4), include_interaction=False)
    assert 0 < client.target_buffer.sum() < mask.sum() and not (client.target_buffer > mask).any()
    assert client.undo() and (client.target_buffer == mask).all()


def test_a_second_click_after_one_that_found_nothing(client: Client, ct: Volume) -> None:
    client.add_point_interaction([10, 36, 36], include_interaction=True)
    assert not client.target_buffer.any(), "lung"
    client.add_point_interaction(at(ct, ONE), include_interaction=True)
    assert f1(client.target_buffer, ct, ONE) > 0.9


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32])
def test_the_buffer_has_the_viewers_type(address: str, ct: Volume, dtype: type) -> None:
    with begun(address, ct, dtype) as client:
        client.add_point_interaction(at(ct, ONE), include_interaction=True)
        assert client.target_buffer.dtype == dtype and set(np.unique(client.target_buffer)) == {0, 1}


def test_what_the_model_takes_is_said(client: Client) -> None:
    assert client.supported_interactions == {
        "points": True, "bbox2d": True, "bbox3d": True, "scribble": False, "lasso": False,
    }  # fmt: skip
    assert client.supports_undo and client.supports_initial_label and not client.supports_zero_shot_label_refinement
    assert "Apache-2.0" in client.license and "research" in client.license
    assert client.ping() and 0 < client.heartbeat() <= client.lease_status()["idle_timeout_seconds"]


@pytest.mark.parametrize("wrong", [(100, 0, 0), (-1, 5, 5), (10, 10, 72), (np.nan, 1, 1), (2**70, 0, 0)])
def test_a_click_outside_of_the_image_crashes_nothing(client: Client, ct: Volume, wrong: tuple[float, ...]) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        client.add_point_interaction(wrong, include_interaction=True)
    assert refused.value.response.status_code == 400
    assert "within the image of 54 x 72 x 72 voxels" in refused.value.response.json()["detail"]
    client.add_point_interaction(at(ct, ONE), include_interaction=True)
    assert client.target_buffer.any()


DRAWN = np.ones((54, 72, 72), np.uint8)
CUBE = np.ones((1, 9, 9, 9))


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda c: c.add_scribble_interaction(DRAWN, True), "scribbles and lassos are not supported"),
        (lambda c: c.add_lasso_interaction(DRAWN, True), "scribbles and lassos are not supported"),
        (lambda c: c.add_bbox_interaction([[1, 9], [1, 9], [1, 9]], False), "click outside of it instead"),
        (lambda c: c.add_bbox_interaction([[90, 99], [1, 9], [1, 9]], True), "within the image"),
        (lambda c: c.add_bbox_interaction([[1, 9], [1, 9]], True), "bbox_coords"),
        (lambda c: c.add_bbox_interaction([[1, 9], [1, 9], [np.nan, 9]], True), "bbox_coords"),
        (lambda c: c.add_point_interaction([5, 5], True), "coordinates"),
        (lambda c: c.add_initial_seg_interaction(DRAWN[1:]), "a mask of the image's shape"),
        (lambda c: c.set_target_buffer(np.zeros((2, 2, 2), np.uint8)), "a buffer of the image's shape"),
        (lambda c: c.set_target_buffer(np.zeros((54, 72, 72), complex)), "complex128"),
        (lambda c: c.set_image(CUBE), "spacing"),
        (lambda c: c.set_image(np.concatenate([CUBE, CUBE]), {"spacing": [1, 1, 1]}), "(1, slices, rows, columns)"),
        (lambda c: c.set_image(CUBE, {"spacing": [1, 1, 1]}), "Hounsfield"),
        (lambda c: c.set_image(CUBE, {"spacing": [1, 1, 0]}), "spacing.2"),
        (lambda c: c.set_image(CUBE, {"spacing": [1, 1, float("inf")]}), "spacing.2"),
        (lambda c: c.set_image(CUBE, {"spacing": [1, 1, 0.001]}), "not those of a chest CT"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: Client, ask: Callable[[Client], object], match: str) -> None:
    client.target_buffer = None  # else the client itself fails at masks of another shape
    with pytest.raises(httpx.HTTPStatusError) as refused:
        ask(client)
    assert refused.value.response.status_code == 400 and match in refused.value.response.json()["detail"]


def test_viewers_do_not_see_each_other(address: str, ct: Volume) -> None:
    with begun(address, ct) as one, begun(address, ct) as other:
        done = threading.Thread(target=one.add_point_interaction, args=(at(ct, ONE), True))
        done.start()
        other.add_point_interaction(at(ct, OTHER), include_interaction=True)
        done.join()
        assert f1(one.target_buffer, ct, ONE) > 0.9 and f1(other.target_buffer, ct, OTHER) > 0.9
        one.reset_interactions()
        other.add_point_interaction(at(ct, OTHER, 0, 0, 4), include_interaction=False)
        assert other.target_buffer.any()


def test_a_place_that_is_lost_is_said(desk: Desk, ct: Volume) -> None:
    with serving(Starlette(routes=nninteractive.routes(desk, most=1, idle_s=4, liveness_s=60))) as address:
        client = begun(address, ct)
        assert len(desk.opened()) == 1 and not next(iter(desk.opened().values())).listed
        with pytest.raises(remote.ServerAtCapacityError, match="1 places are taken"):
            Client(address)
        assert HTTP.post(f"{address}/claim").headers["Retry-After"] == "10"
        time.sleep(4.3)
        with pytest.raises(remote.SessionExpiredError, match="connect again"):
            client.add_point_interaction(at(ct, ONE), include_interaction=True)
        assert not desk.opened(), "its memory is free"
        with begun(address, ct) as again:
            for key in desk.opened():
                desk.close(key)
            with pytest.raises(remote.SessionExpiredError, match="closed at the server"):
                again.add_point_interaction(at(ct, ONE), include_interaction=True)


def test_a_viewer_that_died_gives_its_place_back(desk: Desk, ct: Volume) -> None:
    with serving(Starlette(routes=nninteractive.routes(desk, liveness_s=0.5))) as address:
        dead = HTTP.post(f"{address}/claim").json()["lease_token"]
        assert HTTP.get(f"{address}/lease_status", headers={"X-Lease-Token": dead}).status_code == 200
        headers = {"X-Lease-Token": dead, "X-Meta": json.dumps({"image_properties": {"spacing": [2, 1.5, 1.5]}})}
        HTTP.post(f"{address}/set_image", content=packed.pack(ct.voxels[None]), headers=headers).raise_for_status()
        assert len(desk.opened()) == 1
        deadline = time.monotonic() + 10
        while desk.opened() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not desk.opened(), "without being asked"
        gone = HTTP.post(f"{address}/heartbeat", headers=headers)
        assert gone.status_code == 410 and "gone" in gone.json()["detail"]


def test_the_key_and_the_name(desk: Desk, ct: Volume, tmp_path: Path) -> None:
    with serving(whole(desk, tmp_path, key="secret-k3y")) as address:
        for key in (None, "another"):
            with pytest.raises(httpx.HTTPStatusError, match="401"):
                Client(address, api_key=key)
        assert HTTP.get(f"{address}/healthz").json() == {"ok": True}
        with begun(address, ct, key="secret-k3y") as client:
            client.add_point_interaction(at(ct, ONE), include_interaction=True)
            assert client.target_buffer.any()
    with serving(whole(desk, tmp_path)) as address:
        assert HTTP.post(f"{address}/claim", headers={"Host": "rebound.example"}).status_code == 400
        assert HTTP.post(f"{address}/claim", headers={"Origin": "http://another.example"}).status_code == 403


def test_what_is_too_large_is_refused_before_memory_is_asked_for(ct: Volume) -> None:
    desk = Desk(model(), most_mb=1)
    with serving(Starlette(routes=nninteractive.routes(desk))) as address, Client(address) as client:
        for voxels in (np.zeros((1, 400, 400, 400), np.int16), np.random.default_rng(0).normal(size=(1, 60, 60, 60))):
            with pytest.raises(httpx.HTTPStatusError, match="413"):
                client.set_image(voxels, {"spacing": [1, 1, 1]})
        client.set_image(ct.voxels[None], {"spacing": [2, 1.5, 1.5]})
        with pytest.raises(httpx.HTTPStatusError, match="413"):
            client.set_target_buffer(np.broadcast_to(np.uint8(0), (5000, 5000, 5000)))
        with Client(address) as second, pytest.raises(remote.ServerAtCapacityError, match="close one first"):
            second.set_image(ct.voxels[None], {"spacing": [2, 1.5, 1.5]})
    desk.worker.stop()


def test_older_viewers_are_told_to_update(address: str) -> None:
    for path in ("/upload_image", "/upload_segment", "/add_scribble_interaction"):
        answer = HTTP.post(address + path, files={"file": b"old"})
        assert answer.status_code in (400, 410) and "update the extension" in answer.json()["detail"]


def test_a_viewer_that_hangs_up_changes_nothing(desk: Desk, address: str, ct: Volume) -> None:
    go = threading.Event()
    with begun(address, ct) as client:
        blocking = desk.worker.submit("slow", lambda say: go.wait(20))
        client._http.timeout = httpx.Timeout(1.0)
        with pytest.raises(httpx.ReadTimeout):
            client.add_point_interaction(at(ct, ONE), include_interaction=True)
        client._http.timeout = httpx.Timeout(60.0)
        assert client.heartbeat() > 0, "a slow one stops nobody"
        time.sleep(1)
        go.set()
        blocking.future.result(10)
        client.add_point_interaction(at(ct, ONE), include_interaction=True)
        assert client.undo() and not client.target_buffer.any() and not client.undo()
