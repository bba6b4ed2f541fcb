"""kafka-python's and aiokafka's own record builders and readers, against ours: same bytes, same rows."""

from typing import Any

import pytest
from aiokafka.record.default_records import (
    DefaultRecordBatch as AioBatch,
)
from aiokafka.record.default_records import (
    DefaultRecordBatchBuilder as AioBuilder,
)
from kafka.record.default_records import DefaultRecordBatch as PythonBatch
from kafka.record.default_records import DefaultRecordBatchBuilder as PythonBuilder

from tailrace.broker.wire.batch import Codec
from tailrace.broker.wire.decode import decode_fetch
from tailrace.broker.wire.encode import encode_batch
from tests.support.wire_rows import NOW, Row, records_in, records_of, rows_of

TABLES: dict[str, list[Row]] = {
    "lines": [(None, b"GET /%d HTTP/1.1 200" % n, None, NOW) for n in range(500)],
    "keyed": [(b"key %d" % n, b"x" * (n * 7 % 300), None, NOW + n * n) for n in range(300)],
    "headed": [(None, b"line", [("host", b"n1"), ("n", b"%d" % n)], NOW - n) for n in range(200)],
    "same headers": [(None, b"line %d" % n, [("host", b"n1"), ("äöü", b"")], NOW) for n in range(200)],
    "nulls": [
        (None if n % 2 else b"", None if n % 3 else b"", [("h", None)] if n % 5 else None, NOW)
        for n in range(90)
    ],
    "few": [(b"k", b"v", [("a", b"b")], NOW), (None, None, None, NOW + 5)],
}
CODEC_NUMBERS: dict[Codec, int] = {"none": 0, "gzip": 1}
"""Those that both have without further packages."""


def built(builder: Any, table: list[Row]) -> bytes:
    for record in records_of(table):
        assert builder.append(record.offset, record.timestamp, record.key, record.value, list(record.headers))
    return bytes(builder.build())


def read(batch: Any) -> list[Any]:
    assert batch.validate_crc()
    return [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("builder", [AioBuilder, PythonBuilder])
def test_they_write_the_same_bytes(name: str, builder: Any):
    table = TABLES[name]
    theirs = bytearray(built(builder(2, 0, 0, -1, -1, -1, 10**7), table))
    ours = bytearray(encode_batch(rows_of(table)))
    theirs[12:16] = ours[12:16]  # the leader epoch is outside the CRC, and they send another
    assert ours == theirs


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("codec", CODEC_NUMBERS)
@pytest.mark.parametrize("builder", [AioBuilder, PythonBuilder])
def test_we_read_what_they_write(name: str, codec: Codec, builder: Any):
    theirs = built(builder(2, CODEC_NUMBERS[codec], 1, 42, 0, 0, 10**7), TABLES[name])
    assert records_in(decode_fetch(theirs, start=0).rows) == records_of(TABLES[name])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("codec", CODEC_NUMBERS)
@pytest.mark.parametrize("batch", [AioBatch, PythonBatch])
def test_they_read_what_we_write(name: str, codec: Codec, batch: Any):
    ours = bytes(encode_batch(rows_of(TABLES[name]), codec=codec))
    expected = [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records_of(TABLES[name])]
    assert read(batch(ours)) == expected
