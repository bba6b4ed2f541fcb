"""ApiVersions over a socket: what is advertised is what is registered, and unknown versions are answered
in version 0.
"""

import pytest

from tailrace.broker.api.registry import registrations
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import APIS
from tests.support.wire_client import WireClient


@pytest.mark.parametrize("version", range(5))
def test_what_is_registered_is_advertised(client: WireClient, version: int) -> None:
    answer = client.call(18, version, client_software_name="t", client_software_version="1.0")
    advertised = {k.api_key: (k.min_version, k.max_version) for k in answer.api_keys}
    assert advertised == {key: (r.lowest, r.highest) for key, r in registrations().items()}


def test_nothing_is_registered_that_the_wire_cannot_read() -> None:
    for key, registration in registrations().items():
        assert APIS[key].lowest <= registration.lowest <= registration.highest <= APIS[key].highest


def test_an_unknown_version_is_answered_in_version_0_with_the_known_ones(client: WireClient) -> None:
    client.socket.sendall((10).to_bytes(4, "big") + b"\0\x12\0\x63" + (55).to_bytes(4, "big") + b"\xff\xff")
    frame = client.receive_frame()
    assert frame[:4] == (55).to_bytes(4, "big")
    assert frame[4:] == b"\0\x23" + (1).to_bytes(4, "big") + b"\0\x12\0\0\0\x04"
    answer = client.call(18, 3, client_software_name="t", client_software_version="1")
    assert answer.error_code == 0


@pytest.mark.parametrize(("name", "version"), [("", "1"), ("a", ""), ("-a", "1"), ("a b", "1"), ("a", "1\n")])
def test_a_client_that_misnames_itself_is_told(client: WireClient, name: str, version: str) -> None:
    answer = client.call(18, 3, client_software_name=name, client_software_version=version)
    assert answer.error_code == ErrorCode.invalid_request
