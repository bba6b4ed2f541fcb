"""The line kernel against plain Python, however the bytes are cut into chunks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailrace.sources.lines import Lines, split_lines

Row = tuple[int, bytes, int]
"""Position, body, part number (-1: a whole line)."""


def plain(data: bytes, max_line: int, *, last: bool) -> list[Row]:
    """What the kernel must make of a whole file, written the slow and obvious way."""
    rows: list[Row] = []
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        rows += plain_line(at, data[at:end].removesuffix(b"\r"), max_line)
        at = end + 1
    if last and at < len(data):
        rows += plain_line(at, data[at:], max_line)
    return rows


def plain_line(at: int, line: bytes, max_line: int) -> list[Row]:
    if len(line) <= max_line:
        return [(at, line, -1)]
    return [(at + i, line[i : i + max_line], i // max_line) for i in range(0, len(line), max_line)]


def rows_of(lines: Lines, base: int) -> list[Row]:
    parts = [-1] * len(lines.body) if lines.parts is None else lines.parts.tolist()
    return list(zip((lines.starts + base).tolist(), lines.body.to_pylist(), parts, strict=True))


def in_chunks(data: bytes, cuts: list[int], max_line: int, *, last: bool) -> list[Row]:
    """Feeds the bytes up to each cut, as a growing file would show them."""
    rows: list[Row] = []
    at = part = 0
    for end in [*sorted(cuts), len(data)]:
        is_last = last and end == len(data)
        buffer = np.frombuffer(bytearray(data[at:end]), np.uint8)
        lines = split_lines(buffer, max_line=max_line, part=part, last=is_last)
        rows += rows_of(lines, at)
        buffer[:] = 0
        at += lines.consumed
        part = lines.part
    return rows


texts = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\x00", b"xyzxyz", b"\xff"])).map(
    b"".join
)


@given(texts, st.integers(1, 7), st.lists(st.integers(0, 60)), st.booleans())
def test_rows_are_those_of_plain_python_whatever_the_chunks(
    data: bytes, max_line: int, cuts: list[int], last: bool
) -> None:
    cuts = [min(cut, len(data)) for cut in cuts]
    wanted = plain(data, max_line, last=last)
    got = in_chunks(data, cuts, max_line, last=last)
    if not last:
        # Parts of a line that has not ended yet may already be there.
        assert [row for row in got if row[0] <= data.rfind(b"\n")] == wanted
        return
    assert got == wanted


@given(texts.filter(lambda text: b"\n" not in text and text), st.integers(1, 7), texts)
def test_a_line_that_was_sent_without_its_end_goes_on_as_a_part_and_makes_no_empty_row(
    half: bytes, max_line: int, rest: bytes
) -> None:
    sent = split_lines(np.frombuffer(half, np.uint8), max_line=max_line, last=True)
    assert sent.consumed == len(half)
    after = split_lines(np.frombuffer(rest + b"\n", np.uint8), max_line=max_line, part=sent.part, last=True)
    rows = rows_of(after, 0)
    rest_of_line, _, others = (rest + b"\n").partition(b"\n")
    rest_of_line = rest_of_line.removesuffix(b"\r")
    parts = [row for row in rows if row[2] >= sent.part and row[0] <= len(rest_of_line)]
    assert b"".join(body for _, body, _ in parts if rest_of_line) == rest_of_line
    assert len(rows) == -(-len(rest_of_line) // max_line) + len(plain(others, max_line, last=True))


def test_empty_lines_are_rows_and_one_carriage_return_is_stripped() -> None:
    lines = split_lines(np.frombuffer(b"\n\r\na\r\r\n\rb\n", np.uint8), max_line=100)
    assert rows_of(lines, 0) == [(0, b"", -1), (1, b"", -1), (3, b"a\r", -1), (7, b"\rb", -1)]


def test_a_half_line_is_left() -> None:
    lines = split_lines(np.frombuffer(b"whole\nhalf", np.uint8), max_line=100)
    assert lines.body.to_pylist() == [b"whole"]
    assert (lines.consumed, lines.part) == (6, 0)


def test_a_line_of_exactly_max_line_and_a_carriage_return_is_whole() -> None:
    assert len(split_lines(np.frombuffer(b"abcd\r", np.uint8), max_line=4).body) == 0
    lines = split_lines(np.frombuffer(b"abcd\r\n", np.uint8), max_line=4)
    assert rows_of(lines, 0) == [(0, b"abcd", -1)]


def test_no_bytes_are_no_rows() -> None:
    assert len(split_lines(np.empty(0, np.uint8), max_line=4, last=True).body) == 0
