"""A PACS over DIMSE (PS3.7, PS3.8): is it there (C-ECHO), objects out (C-STORE SCU), objects in (C-STORE SCP).

DIMSE knows neither passwords nor, as used here, encryption: it belongs into a network that is trusted.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.errors import InputError
from clmsda.files import make_folder, replacing
from clmsda.serving.errors import BadAddress, MissingExtra, Refused, Unreachable
from clmsda.serving.instances import NOT_TRIED, Instance, Receipt, check_uid, receipt
from clmsda.serving.web import CONNECT_S, FIRST_PAUSE_S, LONGEST_PAUSE_S

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

OWN_TITLE = "CLMSDA"
MOST_CONTEXTS = 128  # of one association: PS3.8, section 9.3.2.2
OUT_OF_RESOURCES, NOT_ITS_KIND, NOT_UNDERSTOOD = 0xA700, 0xA900, 0xC000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """An application entity somewhere. title: its own AE title; calling: the one by which it knows us.

    timeout_s: how long a silence of it is borne. retries: how often it is called again. Raises BadAddress.
    """

    host: str
    port: int
    title: str = "ANY-SCP"
    calling: str = OWN_TITLE
    timeout_s: float = 60.0
    retries: int = 4

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 1 << 16:
            raise BadAddress(f"expected a host and a port from 1 to 65535, found {self.host}:{self.port}")
        for title in (self.title, self.calling):
            check_title(title)

    def __str__(self) -> str:
        return f"{self.title} at {self.host}:{self.port}"


class _Lost(Exception):
    """The association ended before the answer came."""


def check_title(title: str) -> None:
    """Raise BadAddress unless the text can be an AE title (PS3.5, section 6.2: AE)."""
    if not title.strip() or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise BadAddress(f"an AE title is 1 to 16 printable ASCII characters without a backslash, found {title[:40]!r}")


def echo(peer: Peer) -> None:
    """Ask the peer whether it is there (C-ECHO). Raises Unreachable, Refused."""
    with _associated(peer, [_verification()]) as association:
        status = association.send_c_echo()
    if "Status" not in status:
        raise Unreachable(f"{peer} accepts an association but does not answer a C-ECHO")
    if status.Status != 0:
        raise Refused(f"{peer} answers a C-ECHO with the status {status.Status:04X}, expected 0000")


def send(
    peer: Peer, instances: Sequence[Instance], progress: Callable[[Receipt], None] | None = None
) -> tuple[Receipt, ...]:
    """Send instances (C-STORE), and say of every one whether the peer confirmed it.

    Where the association is lost, another one goes on with the instance that had no answer. An instance that is
    refused stops nothing; after a failure that repeats on every try the rest is not sent. Raises nothing of that:
    see `refuse_unstored`.
    """
    receipts: list[Receipt] = []
    contexts = _contexts(instances)
    lost = 0
    while len(receipts) < len(instances):
        instance = instances[len(receipts)]
        try:
            with _associated(peer, contexts) as association:
                for instance in instances[len(receipts) :]:
                    receipts.append(_send(association, instance))
                    lost = 0
                    if progress is not None:
                        progress(receipts[-1])
        except _Lost:
            lost += 1
            if lost > peer.retries:
                receipts.append(Receipt(instance, False, f"{peer} broke off before it confirmed"))
                break
            _pause(peer, lost - 1, "the association broke off")
        except (Refused, Unreachable) as error:
            receipts.append(Receipt(instance, False, str(error)))
            break
    return (*receipts, *(Receipt(instance, False, NOT_TRIED) for instance in instances[len(receipts) :]))


def _send(association: Association, instance: Instance) -> Receipt:
    from pydicom.uid import UID

    if not any(context.abstract_syntax == instance.sop_class for context in association.accepted_contexts):
        return Receipt(instance, False, f"the PACS takes no objects of the kind {UID(instance.sop_class).name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom repeats values that break the standard, such as names
            status = association.send_c_store(instance.path)
    except ValueError:
        return Receipt(instance, False, f"the PACS does not take it as {UID(instance.transfer_syntax).name}")
    except RuntimeError:  # the association is gone
        raise _Lost from None
    if "Status" not in status:
        raise _Lost
    return receipt(instance, int(status.Status))


def _contexts(instances: Sequence[Instance]) -> list[PresentationContext]:
    """What the association is asked to carry: each kind in its own transfer syntax, or decoded as every peer must."""
    from pydicom.uid import ImplicitVRLittleEndian
    from pynetdicom import build_context

    pairs = dict.fromkeys((one.sop_class, one.transfer_syntax) for one in instances)
    pairs |= dict.fromkeys((one.sop_class, ImplicitVRLittleEndian) for one in instances)
    if len(pairs) >= MOST_CONTEXTS:
        raise BadAddress(f"{len(pairs)} kinds and transfer syntaxes are too many for one association: send fewer files")
    # Verification comes last: with it, an association in which no kind of object is accepted is no failure.
    return [*(build_context(kind, syntax) for kind, syntax in pairs), _verification()]


def _verification() -> PresentationContext:
    try:
        from pynetdicom import VerificationPresentationContexts
    except ImportError as error:
        raise MissingExtra(error) from error

    return VerificationPresentationContexts[0]


@contextmanager
def _associated(peer: Peer, contexts: list[PresentationContext]) -> Iterator[Association]:
    """An association with the peer, released at the end. Raises Unreachable, Refused."""
    entity = _entity(peer.calling, peer.timeout_s)
    association = _associate(entity, peer, contexts)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _associate(entity: ApplicationEntity, peer: Peer, contexts: list[PresentationContext]) -> Association:
    from pynetdicom import evt

    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _limit_silence, [peer.timeout_s])]
    for retry in range(peer.retries + 1):
        try:
            association = entity.associate(
                peer.host, peer.port, contexts=contexts, ae_title=peer.title, evt_handlers=handlers
            )
        except OSError as error:
            raise Unreachable(f"there is no host {peer.host}: {error.strerror}") from error
        if association.is_established:
            return association
        problem = "it cannot be reached, or breaks off"
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            problem = f"it rejects the association ({answer.reason_str.lower()})"
            if answer.result == 1:  # permanently
                raise Refused(f"{peer} does not talk to {peer.calling}: {problem}")
        if retry < peer.retries:
            _pause(peer, retry, problem)
    tries = f"{peer.retries + 1} tries" if peer.retries else "one try"
    raise Unreachable(f"{peer} cannot be used, after {tries}: {problem}")


def _limit_silence(event: Event, timeout_s: float) -> None:
    """Let the socket give up as well: pynetdicom would wait forever to send to a peer that takes no more."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.settimeout(timeout_s)


def _pause(peer: Peer, retry: int, problem: str) -> None:
    pause_s = min(FIRST_PAUSE_S * 2**retry, LONGEST_PAUSE_S)
    log.info("%s: %s; trying again in %g s", peer, problem, pause_s)
    time.sleep(pause_s)


def _entity(title: str, timeout_s: float) -> ApplicationEntity:
    from pynetdicom import AE

    entity = AE(ae_title=title)
    entity.connection_timeout = min(CONNECT_S, timeout_s)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    return entity


@contextmanager
def receiving(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    title: str = OWN_TITLE,
    timeout_s: float = 60.0,
    kept: Callable[[Path], None] | None = None,
) -> Iterator[int]:
    """Listen for objects (C-STORE) and keep each as FOLDER/SERIES/INSTANCE.dcm, while the block runs.

    Gives the port; 0 takes a free one. What the sender is told (success only once the whole file is on disk)
    is what is there: a transfer that breaks off leaves nothing. An object that comes once more replaces the first.
    kept: told of each file, from another thread. Raises BadAddress where it cannot listen.
    """
    check_title(title)
    verification = _verification()
    from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

    entity = _entity(title, timeout_s)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(verification.abstract_syntax or "")
    handlers: list[Any] = [(evt.EVT_C_STORE, _keep, [folder, kept]), (evt.EVT_CONN_OPEN, _limit_silence, [timeout_s])]
    try:
        server = entity.start_server((host, port), block=False, evt_handlers=handlers)
    except OSError as error:
        raise BadAddress(f"cannot listen at {host}:{port}: {error.strerror}; give another --host or --port") from error
    assert server is not None  # as it does not block
    try:
        yield int(server.server_address[1])
    finally:
        entity.shutdown()


def _keep(event: Event, folder: Path, kept: Callable[[Path], None] | None) -> int:
    """Write the object of a C-STORE request; the status that the sender is told."""
    from pydicom import dcmread

    content = event.encoded_dataset()
    announced = getattr(event.request, "AffectedSOPInstanceUID", None)
    try:
        header = dcmread(
            BytesIO(content), specific_tags=["SeriesInstanceUID", "SOPInstanceUID"], stop_before_pixels=True
        )
        series = check_uid(str(header.get("SeriesInstanceUID")), "series")
        name = check_uid(str(header.get("SOPInstanceUID")), "instance")
    except Exception:  # damaged bytes raise almost anything; what is no UID must not become a file's name
        log.warning("refused an object without readable UIDs")
        return NOT_UNDERSTOOD
    if name != announced:
        log.warning("refused an object with another UID than announced")
        return NOT_ITS_KIND
    path = folder / series / f"{name}.dcm"
    try:
        make_folder(path.parent)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except (InputError, OSError) as error:
        log.error("could not keep an object: %s", error)
        return OUT_OF_RESOURCES
    if kept is not None:
        kept(path)
    return 0
