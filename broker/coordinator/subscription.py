"""Which topics a consumer subscribes to: the head of the metadata that it sends with its protocols."""

import struct

_HEAD = struct.Struct(">hi")
_SIZE = struct.Struct(">h")


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """Topics of a ConsumerProtocolSubscription (all versions begin alike); None when it is not one."""
    try:
        version, count = _HEAD.unpack_from(metadata)
        if version < 0 or not 0 <= count <= len(metadata):
            return None
        at = _HEAD.size
        topics = set()
        for _ in range(count):
            (size,) = _SIZE.unpack_from(metadata, at)
            at += _SIZE.size
            name = metadata[at : at + size]
            if size < 0 or len(name) != size:
                return None
            topics.add(name.decode())
            at += size
    except (struct.error, UnicodeDecodeError):
        return None
    return frozenset(topics)
