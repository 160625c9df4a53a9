"""The processes of a Ray cluster in place of our own: an actor for each loads the model once and takes row after row.

Ray starts them where there is room, gives them what they need, and says when one is lost; rows wait until one is free.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from clmsda.batch.errors import BatchError
from clmsda.batch.pool import ATTEMPTS, START_FAILURES, PoolError, Result, Task
from clmsda.errors import InputError
from clmsda.version import software

ANSWER_S = 5.0
"""So long an address may take to answer."""
ROOM_S = 30.0
"""After so long without a worker it is said that the cluster may have no room."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of HTTP/2 begins with (RFC 9113, 3.4): to it a server of gRPC, as Ray is, answers by settings."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "3",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""Ray's, before it is imported: nothing phones home, nothing waits long for an address, nothing but errors is said."""

log = logging.getLogger(__name__)


class Worker(Generic[Task, Result]):
    """What an actor is on the cluster."""

    def __init__(self, start: Callable[[], Callable[[Task], Result]], expected: str) -> None:
        self.work: Callable[[Task], Result] | None = None
        self.refused: InputError | None = None
        if software() != expected:
            self.refused = BatchError(
                f"expected {expected} on every node, found {software()} on {socket.gethostname()}"
            )
            return
        try:
            self.work = start()
        except InputError as error:
            self.refused = BatchError(f"{socket.gethostname()}: {error}")

    def do(self, task: Task | None) -> tuple[bool, Any]:
        """Whether all went well, and the result, or what ends the batch. Without a task: on which node it is ready."""
        if self.work is None:
            return False, self.refused
        try:
            return True, _node() if task is None else self.work(task)
        except InputError as error:
            return False, error
        except Exception as error:
            return False, PoolError(f"{type(error).__name__}: {error}")


@dataclass
class _Hand(Generic[Task]):
    """An actor, its node, the task that it is at (None: it gets ready), and which attempt at it this is."""

    actor: Any
    node: str = ""
    task: Task | None = None
    attempt: int = 0


def spread(
    tasks: Sequence[Task],
    count: int | None,
    start: Callable[[], Callable[[Task], Result]],
    lost: Callable[[Task], Result],
    *,
    ray: Any,
    gpus: int = 0,
) -> Iterator[Result]:
    """As `pool.spread`, on a cluster. count: of actors, a processor each; None: as many as it has processors.

    A task whose actor was lost together with its node has not been tried. Raises BatchError, too, where a node has
    another clmsda or does not see what it needs.
    """
    waiting = deque((task, 1) for task in tasks)
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Worker)
    given, most = ray.put(start), count or _room(ray, "GPU" if gpus else "CPU")
    hands: dict[Any, _Hand[Task]] = {}
    fallen, heard = 0, time.monotonic()
    while left := len(waiting) + sum(hand.task is not None for hand in hands.values()):
        while len(hands) < min(most, left):
            hand: _Hand[Task] = _Hand(actor.remote(given, software()))
            hands[hand.actor.do.remote(None)] = hand
        done, _ = ray.wait(list(hands), num_returns=1, timeout=ROOM_S)
        if not done and time.monotonic() - heard > ROOM_S and all(hand.task is None for hand in hands.values()):
            log.warning("the cluster has no room for a worker yet, which takes a processor: waiting")
        for answer in done:
            hand, heard = hands.pop(answer), time.monotonic()
            task = hand.task
            try:
                right, result = ray.get(answer)
            except ray.exceptions.RayError as error:
                counts = not _is_gone(ray, hand.node)
                if task is None:
                    fallen += 1
                    if fallen >= START_FAILURES:
                        raise BatchError(f"the cluster's workers end before they begin: {_short(error)}") from None
                elif hand.attempt >= ATTEMPTS and counts:
                    yield lost(task)
                else:
                    waiting.appendleft((task, hand.attempt + counts))
                continue
            if not right:
                raise result
            if task is None:
                hand.node, fallen = result, 0
            hand.task = None
            if waiting:
                hand.task, hand.attempt = waiting.popleft()
                hands[hand.actor.do.remote(hand.task)] = hand
            if task is not None:
                yield result


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _is_gone(ray: Any, node: str) -> bool:
    return any(one["NodeID"] == node and not one["Alive"] for one in ray.nodes())


def _room(ray: Any, kind: str) -> int:
    return max(1, int(ray.cluster_resources().get(kind, 1)))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def connected(address: str, device: str) -> Iterator[Callable[..., Iterator[Any]]]:
    """What spreads tasks over the cluster at an address. device: where networks run; cuda takes a GPU for each actor.

    Raises BatchError where no cluster answers soon.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BatchError("--ray needs Ray: pip install 'clmsda[cluster]'") from error
    _check_answers(address)
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    except Exception as error:  # of many kinds, some of them Ray's own
        raise BatchError(f"no Ray cluster answers at {address}: {_short(error)}") from error
    try:
        yield partial(spread, ray=ray, gpus=1 if device.startswith("cuda") else 0)
    finally:
        with suppress(Exception):
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise BatchError unless something like Ray answers soon: Ray itself would wait for a minute, and then abort."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise BatchError(f"expected --ray HOST:PORT, ray://HOST:PORT or auto, found {address}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as line:
            line.settimeout(ANSWER_S)
            line.sendall(_PREFACE)
            answer = line.recv(9)
    except (OSError, OverflowError) as error:
        raise BatchError(
            f"no Ray cluster answers at {address} ({error}): is it started, is this its address?"
        ) from error
    if len(answer) < 9 or answer[3] != 4:
        raise BatchError(f"what answers at {address} is no Ray cluster: give the address that `ray start` prints")
