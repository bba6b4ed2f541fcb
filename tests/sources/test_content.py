"""Logical bytes of plain and gzip'd files, and what their fingerprints tell apart."""

import gzip
import os
from pathlib import Path

import pytest

from tailrace.sources.chunks import ChunkReader, ContentChangedError
from tailrace.sources.comparison import Recollection, SideBySide, Verdict
from tailrace.sources.content import BadContentError, Content, GzipContent, NotAFileError, open_content
from tailrace.sources.progress import Progress

TEXT = b"".join(b"line %d\n" % i for i in range(50_000))


def read_all(content: Content, step: int = 70_000) -> bytes:
    data, block = b"", bytearray(step)
    while count := content.read_at(len(data), memoryview(block)):
        data += block[:count]
    return data


def content(path: Path, data: bytes) -> Content:
    path.write_bytes(data)
    return open_content(str(path))


def progress_of(text: bytes) -> Progress:
    return Progress().advance(memoryview(b""), memoryview(text))


def test_plain_and_gzip_give_the_same_bytes(tmp_path: Path) -> None:
    assert read_all(content(tmp_path / "a", TEXT)) == TEXT
    zipped = content(tmp_path / "a.gz", gzip.compress(TEXT))
    assert read_all(zipped) == TEXT
    assert zipped.is_finished()


def test_several_members_and_padding_are_one_gzip(tmp_path: Path) -> None:
    zipped = content(
        tmp_path / "a.gz", gzip.compress(TEXT[:999]) + gzip.compress(TEXT[999:]) + bytes(700_000)
    )
    assert read_all(zipped) == TEXT
    assert zipped.is_finished()


def test_a_gzip_can_be_read_from_any_offset_and_again(tmp_path: Path) -> None:
    zipped = content(tmp_path / "a.gz", gzip.compress(TEXT))
    block = bytearray(100)
    for offset in (300_000, 299_500, 10, 400_000):
        assert zipped.read_at(offset, memoryview(block)) == 100
        assert bytes(block) == TEXT[offset : offset + 100]


def test_an_unfinished_gzip_goes_on_when_it_grows(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT)
    zipped = content(tmp_path / "a.gz", packed[:-20])
    assert TEXT.startswith(read_all(zipped))
    assert not zipped.is_finished()
    (tmp_path / "a.gz").write_bytes(packed)
    assert read_all(zipped) == TEXT
    assert zipped.is_finished()


def test_a_gzip_that_has_only_begun_is_known_by_its_name(tmp_path: Path) -> None:
    assert isinstance(content(tmp_path / "a.gz", b"\x1f"), GzipContent)


def test_a_broken_gzip_gives_what_comes_before_the_break(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(os.urandom(500_000)))
    packed[400_000:400_100] = bytes(100)
    zipped = content(tmp_path / "a.gz", bytes(packed))
    read_all(zipped)
    with pytest.raises(BadContentError, match="not valid gzip"):
        zipped.is_finished()


def test_a_gzip_bomb_stays_small_in_memory(tmp_path: Path) -> None:
    zipped = content(tmp_path / "a.gz", gzip.compress(bytes(200_000_000), 1))
    block = bytearray(1000)
    assert zipped.read_at(150_000_000, memoryview(block)) == 1000
    assert isinstance(zipped, GzipContent)
    assert len(zipped._buffer) < 1_000_000


@pytest.mark.parametrize("magic", [b"\xfd7zXZ\x00", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd"])
def test_archives_of_other_kinds_are_refused(tmp_path: Path, magic: bytes) -> None:
    with pytest.raises(BadContentError, match="archives are not read"):
        content(tmp_path / "a", magic + b"rest")


def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotAFileError):
        open_content(str(tmp_path / "fifo"))


@pytest.mark.parametrize("cut", [0, 1, 1023, 1024, 1025, 5000, 100_000])
def test_progress_is_the_same_however_it_was_made(cut: int) -> None:
    whole = progress_of(TEXT)
    first = progress_of(TEXT[:cut])
    tail = TEXT[max(0, cut - 1024) : cut]
    assert first.advance(memoryview(tail), memoryview(TEXT[cut:])) == whole
    assert Progress.from_json(whole.to_json()) == whole


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (TEXT, Verdict.AGREES),
        (TEXT + b"more\n", Verdict.AGREES),
        (TEXT[:-1], Verdict.SHORT),
        (TEXT[:100], Verdict.SHORT),
        (b"X" + TEXT[1:], Verdict.DIFFERS),
        (TEXT[:-1] + b"X", Verdict.DIFFERS),
        (TEXT[:3000] + b"X" + TEXT[3001:], Verdict.DIFFERS),
        (TEXT[:3000] + b"X" + TEXT[3001:-100], Verdict.DIFFERS),
        (TEXT[:300_000] + b"X" + TEXT[300_001:400_000], Verdict.SHORT),
    ],
)
def test_a_recollection_tells_the_same_content_from_others(
    tmp_path: Path, text: bytes, verdict: Verdict, packed: bool
) -> None:
    candidate = content(tmp_path / "c", gzip.compress(text) if packed else text)
    recollection = Recollection(progress_of(TEXT))
    steps = 0
    while (answer := recollection.step(candidate, 50_000)) is Verdict.MORE:
        steps += 1
    assert answer is verdict
    assert steps < 20


def test_a_short_copy_is_proven_by_the_marks_it_reaches(tmp_path: Path) -> None:
    recollection = Recollection(progress_of(TEXT))
    assert recollection.step(content(tmp_path / "c", TEXT[:100_000]), 1 << 20) is Verdict.SHORT
    assert recollection.proven == 65_536


def test_side_by_side(tmp_path: Path) -> None:
    original = content(tmp_path / "a", TEXT)
    copy = content(tmp_path / "b", TEXT[:300_000])
    both = SideBySide()
    assert both.step(copy, original, 10) is Verdict.MORE
    assert both.step(copy, original, 1 << 20) is Verdict.SHORT
    (tmp_path / "b").write_bytes(TEXT + b"longer")
    assert both.step(copy, original, 1 << 20) is Verdict.DIFFERS


def test_a_chunk_is_not_taken_from_content_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = content(path, b"one\ntwo\n")
    reader = ChunkReader(max_line=100)
    chunk = reader.read(file, Progress())
    assert chunk.lines.body.to_pylist() == [b"one", b"two"]
    for changed in (b"", b"one\n", b"One\ntwo\nthree\n", b"one\ntwO\nthree\n"):
        path.write_bytes(changed)
        with pytest.raises(ContentChangedError):
            reader.read(file, chunk.progress)
    path.write_bytes(b"one\ntwo\nthree\n")
    assert reader.read(file, chunk.progress).lines.body.to_pylist() == [b"three"]


def test_a_chunk_of_line_ends_is_given_in_pieces(tmp_path: Path) -> None:
    file = content(tmp_path / "a", b"\n" * 100_000)
    reader = ChunkReader(max_line=100)
    first = reader.read(file, Progress())
    assert (len(first.lines.body), first.at_end) == (65_536, False)
    second = reader.read(file, first.progress)
    assert (len(second.lines.body), second.at_end) == (100_000 - 65_536, True)


def test_a_line_longer_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    line = b"x" * 900_000
    file = content(tmp_path / "a", line + b"\nnext\n")
    assert ChunkReader(max_line=1_000_000).read(file, Progress()).lines.body.to_pylist() == [line, b"next"]
