"""Addresses, headers, logins and files, before anything is sent; and that nothing secret is told."""

from __future__ import annotations

import logging
import re
import shutil
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

import certifi
import numpy as np
import pytest
from dicom_series import slices, write_series
from pacs_script import answer, as_json, listing, scripted
from pydicom import dcmread

from clmsda.geometry import Grid, Volume
from clmsda.images.errors import MissingPath, NoDicom, UnreadableFile
from clmsda.serving import web
from clmsda.serving.dicomweb import find_series, store
from clmsda.serving.dimse import Peer
from clmsda.serving.errors import BadAddress, Refused, Unreachable
from clmsda.serving.instances import Instance, read_instances, receipt
from clmsda.serving.web import Server, parse_header

SERIES = "1.2.3.4"
FOUND = answer(200, as_json([listing(SERIES)]))
SMALL = Volume(np.zeros((2, 8, 8), np.int16), Grid.axial((2, 8, 8), (3.0, 1.0, 1.0)))


@pytest.fixture(autouse=True)
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that is not there yet, and pauses that do not hold tests up."""
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


@pytest.mark.parametrize(
    "url",
    ["", "pacs", "pacs:8042/dicom-web", "ftp://pacs/x", "http://", "http://pacs:99999/x", "http://pacs/x?token=hunter2",
     "http://pacs:abc", "https://pacs/x#a"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BadAddress, match="expected the address of a DICOMweb service") as refusal:
        Server(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("url", ["https://sally:hunter2@pacs.example/dicom-web", "ftp://sally:hunter2@pacs.example"])
def test_a_login_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadAddress) as refusal:
        Server(url)
    assert "hunter2" not in str(refusal.value)
    assert "sally" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["Authorization", "=x", "A B=x", "A=x\r\nB: y", "A:=x", "A=naïve", "A=\x00"]
)  # fmt: skip
def test_headers_that_are_none(text: str) -> None:
    with pytest.raises(BadAddress, match="NAME=VALUE") as refusal:
        Server("http://pacs", headers=(parse_header(text),))
    assert "naïve" not in str(refusal.value)


def test_headers_are_sent_and_not_shown() -> None:
    header = parse_header("Authorization=Bearer a=b")
    assert header == ("Authorization", "Bearer a=b")
    with scripted(FOUND) as pacs:
        server = Server(pacs.url, headers=(header, ("X-Site", "7")))
        find_series(server, SERIES)
    assert pacs.seen[0].headers["authorization"] == "Bearer a=b"
    assert pacs.seen[0].headers["x-site"] == "7"
    assert "Bearer" not in repr(server)


def test_the_login_of_the_host_is_taken_from_netrc(netrc: Path) -> None:
    netrc.write_text("machine 127.0.0.1 login sälly password hunter2\n", encoding="utf-8")
    with scripted(FOUND) as pacs:
        find_series(Server(pacs.url), SERIES)
        assert pacs.seen[-1].headers["authorization"] == "Basic " + b64encode("sälly:hunter2".encode()).decode()
        find_series(Server(pacs.url, headers=(("authorization", "Bearer mine"),)), SERIES)
        assert pacs.seen[-1].headers["authorization"] == "Bearer mine"
    netrc.write_text("machine pacs.example login sally password hunter2\n")
    with scripted(FOUND) as pacs:
        find_series(Server(pacs.url), SERIES)
        assert "authorization" not in pacs.seen[-1].headers


def test_a_damaged_netrc_is_refused_without_its_words(netrc: Path) -> None:
    netrc.write_text("machine 127.0.0.1 login sally passwort hunter2\n")
    with pytest.raises(BadAddress, match="netrc, line 1,") as refusal:
        find_series(Server("http://127.0.0.1:9"), SERIES)
    assert "hunter2" not in str(refusal.value)


def test_redirections_do_not_carry_credentials_elsewhere() -> None:
    with (
        scripted(FOUND) as elsewhere,
        scripted(answer(307, Location=f"{elsewhere.url}/series")) as pacs,
        pytest.raises(Refused, match="307"),
    ):
        find_series(Server(pacs.url, headers=(("X-Token", "hunter2"),)), SERIES)
    assert elsewhere.seen == []


def test_files_of_certificates(tmp_path: Path) -> None:
    with pytest.raises(BadAddress, match="expected a file with certificates"):
        Server("https://127.0.0.1", ca=tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(BadAddress, match="expected a file with certificates"):
        Server("https://127.0.0.1", ca=tmp_path / "ca.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1",
               "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    pauses: list[float] = []
    monkeypatch.setattr(web.time, "sleep", pauses.append)
    with scripted(FOUND, tls=tls) as pacs:
        with pytest.raises(Unreachable, match=r"the certificate of .* cannot be verified: .*--ca FILE"):
            find_series(Server(pacs.url, retries=3), SERIES)
        assert pauses == []  # that will not get better
        assert find_series(Server(pacs.url, ca=certificate), SERIES).images == 2
        with pytest.raises(Unreachable, match="cannot be verified"):  # another name than the certificate's
            find_series(Server(pacs.url.replace("127.0.0.1", "localhost"), ca=certificate), SERIES)
        (tmp_path / "other.pem").write_text(Path(certifi.where()).read_text())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))  # --ca is asked for, so it wins
        assert find_series(Server(pacs.url, ca=certificate), SERIES).images == 2
        with pytest.raises(Unreachable, match="after one try"):  # plain HTTP where TLS is spoken
            find_series(Server(pacs.url.replace("https", "http"), retries=0), SERIES)


@pytest.mark.parametrize("uid", ["", "..", "1..2", "1.2/../../instances", "1.2.x", "1." * 40 + "1", "1.2\n"])
def test_what_is_no_uid_becomes_part_of_no_address(uid: str) -> None:
    with scripted(FOUND) as pacs:
        with pytest.raises(BadAddress, match="expected a UID"):
            find_series(Server(pacs.url), uid)
        assert pacs.seen == []


@pytest.mark.parametrize("title", ["", "  ", "A" * 17, "A\\B", "ÄTITLE", "A\n"])
def test_titles_that_are_none(title: str) -> None:
    with pytest.raises(BadAddress, match="AE title"):
        Peer("127.0.0.1", 104, title)


@pytest.mark.parametrize(("host", "port"), [("", 104), ("pacs", 0), ("pacs", 65536)])
def test_ports_that_are_none(host: str, port: int) -> None:
    with pytest.raises(BadAddress, match="host and a port"):
        Peer(host, port)


# ---- files


def test_files_and_folders_become_instances(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "ct", SMALL)
    (tmp_path / "ct" / "notes.txt").write_text("passed over")
    first = dcmread(paths[0])
    instances = read_instances([tmp_path / "ct", paths[0]])
    assert [one.path for one in instances] == [*paths, paths[0]]
    assert instances[0] == Instance(
        path=paths[0],
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        sop_uid=first.SOPInstanceUID,
        study_uid=first.StudyInstanceUID,
        transfer_syntax="1.2.840.10008.1.2.1",
        modality="CT",
    )
    assert str(instances[0]) == "CT (IM0001.dcm)"


def test_files_that_a_pacs_cannot_file(tmp_path: Path) -> None:
    with pytest.raises(MissingPath, match="no file or folder"):
        read_instances([tmp_path / "none"])
    with pytest.raises(NoDicom):
        read_instances([tmp_path])
    (tmp_path / "a.bin").write_bytes(bytes(500))
    with pytest.raises(NoDicom, match=r"a\.bin"):
        read_instances([tmp_path])
    (tmp_path / "a.bin").unlink()
    bare, nameless = slices(SMALL)
    del nameless.StudyInstanceUID
    bare.save_as(tmp_path / "bare.dcm", enforce_file_format=True)
    content = (tmp_path / "bare.dcm").read_bytes()
    (tmp_path / "bare.dcm").write_bytes(content[content.index(b"\x08\x00\x08\x00CS") :])
    with pytest.raises(UnreadableFile, match="preamble"):
        read_instances([tmp_path / "bare.dcm"])
    nameless.save_as(tmp_path / "nameless.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableFile, match="no StudyInstanceUID"):
        read_instances([tmp_path / "nameless.dcm"])


@pytest.mark.parametrize(
    ("status", "is_stored", "said"),
    [
        (0x0000, True, ""),
        (0xB007, True, "does not match its kind (B007)"),
        (0xB123, True, "remarked something (B123)"),
        (0x0107, True, "attributes are in error (0107)"),
        (0x0122, False, "takes no objects of this kind (0122)"),
        (0x0124, False, "does not allow it (0124)"),
        (0xA701, False, "out of resources (A701)"),
        (0xA900, False, "does not match its kind (A900)"),
        (0xC122, False, "transfer syntax (C122)"),
        (0xC001, False, "does not understand it (C001)"),
        (0xFE00, False, "(FE00)"),
    ],
)
def test_what_a_status_means(status: int, is_stored: bool, said: str, tmp_path: Path) -> None:
    """PS3.4 table B.2-1: success, warnings (the object is stored), failures."""
    one = receipt(Instance(tmp_path / "a.dcm", "1", "1", "1", "1", "SEG"), status)
    assert one.stored == is_stored
    assert one.words.endswith(said)


# ---- nothing secret is told


def test_nothing_about_patients_or_logins_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], netrc: Path
) -> None:
    """Not even with every logger turned up, values that pydicom warns of, and a PACS that repeats them."""

    def edit(dataset: object, _: int) -> None:
        dataset.PatientName = dataset.PatientID = dataset.AccessionNumber = "SALLY-" + "4711" * 20  # type: ignore

    netrc.write_text("machine 127.0.0.1 login nurse password hunter2\n")
    caplog.set_level(logging.DEBUG)
    with pytest.warns(UserWarning):  # by the test's own writing of over-long values
        write_series(tmp_path / "ct", SMALL, edit=edit)
    instances = read_instances([tmp_path / "ct"])
    echoing = [answer(503, b"SALLY-4711"), answer(409, b"SALLY-4711"), answer(500, b"SALLY-4711")]
    with scripted(*echoing) as pacs:
        receipts = store(Server(pacs.url, retries=1), instances)
    assert [one.stored for one in receipts] == [False, False]
    told = caplog.text + "".join(capfd.readouterr()) + " ".join(one.words for one in receipts)
    assert "credentials go to http://127.0.0.1" in caplog.text  # so much for unencrypted ones
    assert "trying again" in caplog.text
    assert not re.search(f"SALLY|4711|nurse|hunter2|{b64encode(b'nurse:hunter2').decode()}", told)
