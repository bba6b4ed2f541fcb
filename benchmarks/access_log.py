"""A deterministic access log: the same seed and size give the same bytes on every machine.

About 130 bytes a line; some lines are empty, some are not UTF-8, one has 1 MiB. Run as
`python -m benchmarks.access_log FILE LINES` to make one.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK = 100_000
_START = 1_767_225_600  # 2026-01-01T00:00:00Z
_VERBS = ["GET", "GET", "GET", "GET", "POST", "HEAD", "PUT"]
_AGENTS = ["Mozilla/5.0 (X11; Linux x86_64)", "curl/8.9.1", "Go-http-client/2.0", "Mozilla/5.0 (Macintosh)"]
_STATUS = ["200", "200", "200", "200", "304", "404", "301", "500"]
NOT_UTF8 = b"\xff\xfe caf\xe9"


def write_access_log(path: Path, lines: int, seed: int = 1) -> None:
    """Writes `lines` lines; every 10,007th empty, every 5,003rd not UTF-8, one of 1 MiB."""
    random = np.random.default_rng(seed)
    paths = pa.array(
        [f"/shop/{random.integers(100)}/item-{random.integers(10**6):06d}.html" for _ in range(5000)],
        pa.binary(),
    )
    hosts = pa.array([".".join(map(str, random.integers(1, 255, 4))) for _ in range(20_000)], pa.binary())
    with path.open("wb", buffering=2**20) as out:
        for first in range(0, lines, _CHUNK):
            count = min(_CHUNK, lines - first)
            out.write(_chunk(random, first, count, lines, hosts, paths))


def _chunk(
    random: np.random.Generator, first: int, count: int, lines: int, hosts: pa.Array, paths: pa.Array
) -> bytes:
    def pick(values: pa.Array | list[str]) -> pa.Array:
        pool = values if isinstance(values, pa.Array) else pa.array(values, pa.binary())
        return pool.take(pa.array(random.integers(0, len(pool), count)))

    numbers = np.arange(first, first + count)
    seconds = pa.array(_START + numbers // 200, pa.timestamp("s", tz="UTC"))
    stamp = pc.strftime(seconds, "%d/%b/%Y:%H:%M:%S +0000").cast(pa.binary())
    size = pa.array(random.integers(200, 90_000, count)).cast(pa.string()).cast(pa.binary())
    unique = pa.array(numbers).cast(pa.string()).cast(pa.binary())
    body = pc.binary_join_element_wise(
        pick(hosts), b" - - [", stamp, b'] "', pick(_VERBS), b" ", pick(paths), b' HTTP/1.1" ',
        pick(_STATUS), b" ", size, b' "', pick(_AGENTS), b'" id=', unique, b"",
    )  # fmt: skip
    body = pc.if_else(
        pa.array(numbers % 5003 == 5002), pc.binary_join_element_wise(body, NOT_UTF8, b" "), body
    )
    body = pc.if_else(pa.array(numbers % 10_007 == 10_006), pa.scalar(b"", pa.binary()), body)
    middle = lines // 2 - first
    if 0 <= middle < count:
        long = pa.array([b"x" * 2**20], pa.binary())
        body = pa.concat_arrays([body[:middle], long, body[middle + 1 :]])
    joined = pc.binary_join_element_wise(body, b"\n", b"")
    return b"".join(joined.to_pylist())


if __name__ == "__main__":
    write_access_log(Path(sys.argv[1]), int(sys.argv[2]))
