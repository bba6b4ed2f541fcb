"""ApiVersions (key 18), versions 0 to 4: what this broker answers, straight from the registrations.

KIP-35, KIP-511 (client's name and version; an unknown version is answered in version 0 with error 35).
Not here: features (KIP-584): none is finalized, and librdkafka before 2.2 trips over tagged fields, so
none is sent.
"""

import re
from functools import cache

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles, registrations
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import API_VERSIONS, Request, encoded, response

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
_FIRST_WITH_SOFTWARE = 3


@handles(API_VERSIONS, versions=(0, 4))
def api_versions(request: Request, session: Session, _: Broker) -> Answer:
    if request.api_version >= _FIRST_WITH_SOFTWARE:
        name, version = request.body.client_software_name, request.body.client_software_version
        if not (_SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(version)):
            return response(API_VERSIONS, request.api_version, error_code=ErrorCode.invalid_request)
        session.client_software = f"{name} {version}"
    return _all(request.api_version)


@cache
def _all(version: int) -> bytes:
    keys = [
        {"api_key": r.key, "min_version": r.lowest, "max_version": r.highest}
        for r in registrations().values()
    ]
    return encoded(API_VERSIONS, version, response(API_VERSIONS, version, api_keys=keys))


@cache
def unsupported() -> bytes:
    """The body, of version 0, for a request in a version that is not known: which ones are."""
    own = registrations()[API_VERSIONS]
    keys = [{"api_key": own.key, "min_version": own.lowest, "max_version": own.highest}]
    code = ErrorCode.unsupported_version
    return encoded(API_VERSIONS, 0, response(API_VERSIONS, 0, error_code=code, api_keys=keys))
