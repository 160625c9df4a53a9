"""Sessions: prompts in their order, undo, one voxel for one lesion, and a folder that keeps it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from half_tissue import Ball, lung, model

from clmsda.errors import InputError
from clmsda.geometry import Volume
from clmsda.images import write_image
from clmsda.prompts import Box, Inside, Outside, Point, PromptError, RecistLine
from clmsda.serving.sessions import Cancelled, Desk, NoSuchLesion, Session, SessionError, Worker

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)
OTHER: Ball = ((22.0, 0.0, 0.0), 16.0)


@pytest.fixture(scope="module")
def ct() -> Volume:
    return lung(ONE, OTHER)


@pytest.fixture
def session(ct: Volume, tmp_path: Path) -> Session:
    return Session(ct, model(), tmp_path / "state")


def voxels(session: Session) -> np.ndarray:
    return session.found().mask.voxels


def test_what_is_said_is_done_undone_and_done_again(session: Session) -> None:
    lesion = session.prompt(Point(ONE[0]))
    assert lesion.label == 1 and lesion.now.measurement and 15 < lesion.now.measurement.long_axis_mm < 25
    first = voxels(session)
    session.prompt(Outside((-28.0, 0.0, 0.0)), 1)
    assert voxels(session).sum() < first.sum()
    session.undo()
    assert (voxels(session) == first).all()
    session.redo()
    assert voxels(session).sum() < first.sum() and not session.can_redo
    session.undo()
    session.prompt(Point(OTHER[0]))
    assert [one.label for one in session.lesions] == [1, 2] and not session.can_redo
    session.delete(1)
    assert [one.label for one in session.lesions] == [2]
    session.prompt(Point(ONE[0]))
    assert [one.label for one in session.lesions] == [2, 3], "a number is given once"


def test_a_line_or_box_stands_for_the_prompt_before_it(session: Session) -> None:
    session.prompt(Point(ONE[0]))
    session.prompt(Outside((-28.0, 0.0, 0.0)), 1)
    line = RecistLine((-29.0, 0.0, 0.0), (-11.0, 0.0, 0.0))
    lesion = session.prompt(line, 1)
    assert [type(one.said) for one in lesion.steps] == [Point, Outside, RecistLine]
    outside = np.rint(session.volume.grid.to_index((-28.0, 0.0, 0.0))).astype(int)
    assert not voxels(session)[tuple(outside)], "corrections stay"
    assert session.found().lesions[0].prompt == line
    session.prompt(Box((-31.0, -11.0, -11.0), (-9.0, 11.0, 11.0)), 1)
    assert isinstance(session.found().lesions[0].prompt, Box)


def test_a_mask_to_start_from_is_taken_as_it_is(session: Session) -> None:
    mask = np.zeros(session.volume.grid.shape, bool)
    mask[30:36, 30:40, 30:40] = True
    session.start(mask)
    assert (voxels(session) == mask).all()
    point = session.volume.grid.to_lps((32, 30, 30))
    session.prompt(Outside(tuple(point)), 1)  # type: ignore[arg-type]
    assert not (voxels(session).astype(bool) & ~mask).any() and voxels(session).sum() < mask.sum()
    for bad, match in ((np.zeros_like(mask), "empty"), (mask[1:], "shape")):
        with pytest.raises(SessionError, match=match):
            session.start(bad)


def test_a_voxel_belongs_to_one_lesion(session: Session) -> None:
    session.prompt(Point(ONE[0]))
    with pytest.raises(SessionError, match="same tumor as lesion 1"):
        session.prompt(Point((-22.0, 2.0, 0.0)))
    before = voxels(session) == 1
    mask = np.zeros_like(before)
    lower = np.argwhere(before).min(axis=0)
    mask[lower[0] - 8 : lower[0] + 4, lower[1] : lower[1] + 12, lower[2] : lower[2] + 12] = True
    lesion = session.start(mask)
    assert "belongs to lesion 1" in lesion.now.warnings[0] and (voxels(session)[before] == 1).all()
    assert lesion.now.measurement is not None
    volume_ml = (mask & ~before).sum() * session.volume.grid.voxel_ml
    assert lesion.now.measurement.volume_ml == pytest.approx(volume_ml)


@pytest.mark.parametrize(
    ("do", "error", "match"),
    [
        (lambda s: s.prompt(Inside((0, 0, 0))), SessionError, "click into the tumor first"),
        (lambda s: s.prompt(Point((5000, 0, 0))), PromptError, "within the image"),
        (lambda s: s.prompt(Point(OTHER[0]), 7), NoSuchLesion, "no lesion 7"),
        (lambda s: s.prompt(Outside(ONE[0]), 1), PromptError, "leave one out"),
        (lambda s: s.rename(1, "x" * 65), SessionError, "64 characters"),
        (lambda s: s.place_in(1, "liver"), SessionError, "lymph node"),
        (lambda s: s.redo(), SessionError, "nothing to redo"),
        (lambda s: s.delete(2), NoSuchLesion, "found 1"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    session: Session, do: Callable[[Session], object], error: type[InputError], match: str
) -> None:
    session.prompt(Point(ONE[0]))
    revision = session.revision
    with pytest.raises(error, match=match):
        do(session)
    assert session.revision == revision


def test_a_session_is_gone_on_with_from_its_folder(session: Session, ct: Volume) -> None:
    session.prompt(Point(ONE[0]))
    session.prompt(Outside((-28.0, 0.0, 0.0)), 1)
    session.prompt(RecistLine((14.0, 0.0, 0.0), (30.0, 0.0, 0.0)))
    session.rename(2, "upper lobe")
    session.place_in(2, "lymph node")
    session.accept(1)
    again = Session(ct, model(), session.folder)
    assert (voxels(again) == voxels(session)).all()
    assert [one.to_json() for one in again.lesions] == [one.to_json() for one in session.lesions]
    assert again.lesion(1).accepted and again.lesion(2).title == "upper lobe"
    for _ in range(4):
        again.undo()
    assert len(again.lesions[0].steps) == 2 and len(again.lesions) == 1
    again.undo()
    assert len(again.lesions[0].steps) == 1


def test_a_folder_is_never_taken_for_another_cts(session: Session) -> None:
    session.prompt(Point(ONE[0]))
    with pytest.raises(SessionError, match="another CT"):
        Session(lung(ONE), model(), session.folder)
    assert session.folder is not None
    (session.folder / "session.json").write_text('{"format": 1')
    with pytest.raises(SessionError, match="damaged"):
        Session(session.volume, model(), session.folder)


def test_steps_that_cannot_be_undone_any_more_leave_the_folder(session: Session) -> None:
    session.prompt(Point(ONE[0]))
    session.undo()
    session.prompt(Point(OTHER[0]))
    assert session.folder is not None and len(list(session.folder.glob("*.mask"))) == 1


def test_a_disk_that_is_full_loses_nothing_that_is_in_memory(session: Session) -> None:
    session.prompt(Point(ONE[0]))
    assert session.folder is not None
    folder, aside = session.folder, session.folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("a file where the folder was")
    session.prompt(Point(OTHER[0]))
    assert "not saved" in session.unsaved and len(session.lesions) == 2
    folder.unlink()
    session.accept(2)
    assert session.unsaved == ""
    assert len(Session(session.volume, model(), folder).lesions) == 2


def test_a_lesion_that_changes_meanwhile_is_left_alone(session: Session) -> None:
    session.prompt(Point(ONE[0]))

    def meanwhile(text: str) -> None:
        if len(session.lesion(1).steps) == 1:
            session.start(voxels(session) == 1, 1)

    with pytest.raises(SessionError, match="changed while"):
        session.prompt(RecistLine((-29.0, 0.0, 0.0), (-11.0, 0.0, 0.0)), 1, meanwhile)
    assert len(session.lesion(1).steps) == 2


def test_the_worker_does_one_thing_at_a_time_and_can_be_called_off() -> None:
    worker, begun, go = Worker(), threading.Event(), threading.Event()

    def slow(say: Callable[[str], None]) -> str:
        begun.set()
        go.wait(10)
        say("halfway")
        return "slow"

    first, second = worker.submit("slow", slow), worker.submit("quick", lambda say: "quick")
    assert begun.wait(10)
    assert worker.progress(first)["doing"] == "beginning" and worker.progress(second)["doing"] == "waiting"
    first.cancel()
    go.set()
    with pytest.raises(Cancelled, match="nothing was changed"):
        first.future.result(10)
    assert second.future.result(10) == "quick"

    def wrong(say: Callable[[str], None]) -> None:
        raise PromptError("not there")

    with pytest.raises(PromptError, match="not there"):
        worker.submit("wrong", wrong).future.result(10)
    assert worker.submit("quick", lambda say: time.sleep(0.05)).future.result(10) is None
    later = worker.submit("quick", lambda say: None)
    later.future.result(10)
    assert worker.progress(later)["done"]
    worker.stop()


def test_a_desk_opens_each_ct_once_and_forgets_what_is_idle(ct: Volume, tmp_path: Path) -> None:
    write_image(ct, tmp_path / "ct.nii.gz")
    desk = Desk(model(), tmp_path / "kept", most_mb=1.6 * ct.voxels.nbytes / 2**20)
    key = desk.read(tmp_path / "ct.nii.gz")
    assert desk.read(tmp_path / "ct.nii.gz") == key
    desk.get(key).session.prompt(Point(ONE[0]))
    with pytest.raises(SessionError, match="close one first"):
        desk.put(lung(ONE), name="another")
    assert desk.close_idle(60) == [] and desk.close_idle(-1) == [key]
    with pytest.raises(SessionError, match="open it again"):
        desk.get(key)
    again = desk.get(desk.read(tmp_path / "ct.nii.gz"))
    assert len(again.session.lesions) == 1 and again.name == "ct.nii.gz"
    desk.worker.stop()


def test_a_point_after_one_that_found_nothing_stands_for_it(session: Session) -> None:
    nothing = session.prompt(Point((0.0, 0.0, 45.0)))
    assert nothing.now.measurement is None
    lesion = session.prompt(Point(ONE[0]), nothing.label)
    assert lesion.now.measurement and lesion.said[-1] == Point(ONE[0])
    assert isinstance(session.prompt(Point(ONE[0]), 1).said[-1], Inside)


def test_a_description_is_one_change_and_nothing_where_it_says_nothing_new(session: Session) -> None:
    session.prompt(Point(ONE[0]))
    session.describe(1, name="apex", organ="lymph node", accepted=True)
    revision = session.revision
    session.describe(1, name="apex", accepted=True)
    assert session.revision == revision
    session.undo()
    assert (session.lesion(1).name, session.lesion(1).organ, session.lesion(1).accepted) == ("", "lung", False)
    session.clear()
    with pytest.raises(NoSuchLesion):
        session.delete(1)


def test_a_step_is_found_even_where_it_was_undone(session: Session) -> None:
    uid = session.prompt(Point(ONE[0])).now.uid
    session.undo()
    assert session.step(uid).uid == uid
    with pytest.raises(SessionError, match="no such step"):
        session.step("another")


def test_one_ct_has_one_session_that_writes_its_folder(ct: Volume, tmp_path: Path) -> None:
    for name in ("a/ct.nii.gz", "b/ct.nii.gz", "other.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(ct, tmp_path / name)
    desk, private = Desk(model(), tmp_path / "kept"), tmp_path / "private"
    private.mkdir()
    key = desk.read(tmp_path / "a" / "ct.nii.gz")
    assert desk.read(tmp_path / "b" / "ct.nii.gz", private=private) == key and not private.exists()
    with pytest.raises(SessionError, match=r"open already, as ct\.nii\.gz"):
        desk.read(tmp_path / "other.nii.gz")
    desk.close(key)
    private.mkdir()
    key = desk.read(tmp_path / "other.nii.gz", private=private)
    desk.close(key)
    assert not private.exists()
    desk.worker.stop()
