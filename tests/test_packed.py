"""Packed arrays: what is packed comes back, and nothing that is damaged does harm."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable

import blosc2
import httpx
import numpy as np
import pytest
from half_tissue import lung, model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import serving
from starlette.applications import Starlette

from clmsda.serving.http import nninteractive
from clmsda.serving.http.answers import TooMuch
from clmsda.serving.http.packed import DTYPES, BadArray, header, pack, unpack
from clmsda.serving.sessions import Desk

serialization = pytest.importorskip(
    "nnInteractive.inference.remote.serialization", reason="nninteractive-client is not installed"
)
MOST = 1 << 20


def some(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (1, 4, 40, 40)])
def test_both_ends_agree(dtype: str, shape: tuple[int, ...]) -> None:
    array = some(dtype, shape)
    for back in (unpack(serialization.pack_array(array), most_bytes=MOST), serialization.unpack_array(pack(array))):
        assert back.dtype == array.dtype and back.shape == array.shape and (back == array).all()


@pytest.mark.parametrize("filters", [[f] for f in ("NOFILTER", "SHUFFLE", "BITSHUFFLE", "DELTA", "BYTEDELTA")])
@pytest.mark.parametrize("codec", ["ZSTD", "LZ4"])
def test_any_filter_may_come(filters: list[str], codec: str) -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, (1, 12, 40, 40)).astype(np.int16)
    chosen = [getattr(blosc2.Filter, name) for name in filters]
    data = serialization.pack_array(array, codec=getattr(blosc2.Codec, codec), filters=chosen)
    assert (unpack(data, most_bytes=MOST) == array).all()


def test_several_chunks_and_an_array_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_CHUNK_SIZE", 1000)
    array = some("int16", (9, 11, 13))
    assert (unpack(serialization.pack_array(array), most_bytes=MOST) == array).all()
    assert not unpack(serialization.pack_array(np.zeros((7, 77, 77), np.uint8)), most_bytes=MOST).any()


def with_shape(data: bytes, *shape: int) -> bytes:
    begin = 8 + data[7]
    return data[:begin] + struct.pack(f"<{len(shape)}q", *shape) + data[begin + 8 * data[6] :]


def with_flags(data: bytes, at: int, value: int) -> bytes:
    """A byte of the first chunk's header changed."""
    begin = header(data).begin + 4 + 16 + at
    return data[:begin] + bytes([value]) + data[begin + 1 :]


KEYS = ("coordinates", "include_interaction", "run_prediction", "bbox_coords", "shape", "dtype")
WHOLE = pack(some("uint8", (4, 5, 6)))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda data: b"", "break off"),
        (lambda data: b"NNIA\1\1\xff\3", "break off"),
        (lambda data: b"PK\3\4" + data[4:], "begins with b'NNIA'"),
        (lambda data: data[:4] + b"\2" + data[5:], "newer than this server"),
        (lambda data: data[:5] + b"\7" + data[6:], "codec 7"),
        (lambda data: data.replace(b"uint8", b"|O,f4"), "numbers of type"),
        (lambda data: with_shape(data, 4, -5, -6), "lengths of at least 1"),
        (lambda data: with_shape(data, 4, 5, 7), "do not make up"),
        (lambda data: with_shape(data, 4, 5, 5), "do not make up"),
        (lambda data: data[:-1], "do not make up"),
        (lambda data: data + b"1", "do not make up"),
        (lambda data: with_flags(data, 31, 0b1000), "not one that blosc2 writes"),
        (lambda data: with_flags(data, 4, 121), "its own header says 121"),
        (lambda data: with_flags(data, 16, 32), "plug-in"),
        (lambda data: with_flags(data, 2, 0b11000101), "plug-in"),
    ],
)
def test_what_is_damaged_is_refused_by_name(damage: Callable[[bytes], bytes], match: str) -> None:
    with pytest.raises(BadArray, match=match):
        unpack(damage(WHOLE), most_bytes=MOST)


def test_a_claim_to_be_huge_takes_no_memory() -> None:
    for shape in ((1 << 40,), (1 << 21, 1 << 21, 1 << 21), (2**63 - 1, 2**63 - 1)):
        with pytest.raises(TooMuch, match="at most 1 MB"):
            unpack(with_shape(WHOLE, *shape) if len(shape) == 3 else _of(shape), most_bytes=MOST)
    tracemalloc.start()
    with pytest.raises(BadArray):
        unpack(with_shape(WHOLE, 1 << 10, 1 << 10, 1 << 10), most_bytes=1 << 31)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def _of(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f"<4sBBBB5s{len(shape)}qI", b"NNIA", 1, 1, len(shape), 5, b"uint8", *shape, 0)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A packed array with bytes changed, cut off, doubled; or any bytes."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.tuples(*[st.integers(1, 6)] * 3))
    data = bytearray(pack(some(dtype, shape)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.none(), st.integers(0, len(data))))
    return draw(st.sampled_from([bytes(data[:cut]), bytes(data * 2), draw(st.binary(max_size=99))]))


@settings(deadline=None, max_examples=400)
@given(damaged())
def test_no_damage_does_harm(data: bytes) -> None:
    try:
        array = unpack(data, most_bytes=MOST)
    except (BadArray, TooMuch):
        return
    assert array.nbytes <= MOST and array.dtype.name in DTYPES
    assert array.dtype != bool or array.view(np.uint8).max() <= 1


def test_no_damage_makes_the_server_stumble() -> None:
    desk = Desk(model())
    meta = {"X-Meta": '{"image_properties": {"spacing": [1, 1, 1]}}'}
    with (
        serving(Starlette(routes=nninteractive.routes(desk))) as address,
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
    ):
        client.headers["X-Lease-Token"] = client.post("/claim").json()["lease_token"]

        @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
        @given(damaged(), st.sampled_from(["/set_image", "/add_initial_seg_interaction", "/add_point_interaction"]))
        def send(data: bytes, path: str) -> None:
            answer = client.post(path, content=data, headers=meta)
            assert answer.status_code in (400, 413) and "\n" not in answer.json()["detail"]

        send()
        ct = lung(((0.0, 0.0, 0.0), 20.0), shape=(24, 24, 24))
        client.post("/set_image", content=pack(ct.voxels[None]), headers=meta).raise_for_status()

        @settings(deadline=None, max_examples=60)
        @given(
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
            ),
            st.sampled_from(["add_point_interaction", "add_bbox_interaction", "set_target_buffer", "undo"]),
        )
        def say(value: object, path: str) -> None:
            assert client.post(f"/{path}", content=json.dumps(value)).status_code in (200, 400, 413)

        say()
    desk.worker.stop()
