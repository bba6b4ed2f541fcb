"""The id that an agent keeps, and gives up on another machine."""

from pathlib import Path

import pytest

from tailrace.agents.instance import instance_id, machine_id
from tailrace.errors import Halt
from tailrace.fs import LocalFileSystem

FS = LocalFileSystem()


def test_it_is_made_once(tmp_path: Path) -> None:
    first = instance_id(tmp_path, FS, "m1", "p")
    assert len(first) == 32 and int(first, 16) >= 0
    assert instance_id(tmp_path, FS, "m1", "p") == first


def test_a_copy_on_another_machine_gets_a_new_one_and_keeps_that(tmp_path: Path) -> None:
    first = instance_id(tmp_path, FS, "m1", "p")
    second = instance_id(tmp_path, FS, "m2", "p")
    assert second != first
    assert instance_id(tmp_path, FS, "m2", "p") == second


def test_where_machines_have_no_id_it_stays(tmp_path: Path) -> None:
    first = instance_id(tmp_path, FS, "", "p")
    assert instance_id(tmp_path, FS, "m1", "p") == first
    assert instance_id(tmp_path, FS, "", "p") == first


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"id": "x", "machine": ""}', '{"id": 3, "machine": ""}', "{}"]
)
def test_a_damaged_file_is_not_guessed_at(tmp_path: Path, text: str) -> None:
    (tmp_path / "instance.json").write_text(text)
    with pytest.raises(Halt, match=r"instance.json is damaged; restore it, or remove it"):
        instance_id(tmp_path, FS, "m1", "p")


def test_another_pipeline_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    instance_id(tmp_path, FS, "m1", "p")
    with pytest.raises(Halt, match=r"belongs to the pipeline 'p', and this is 'q': .* `pipeline: p`"):
        instance_id(tmp_path, FS, "m1", "q")


def test_no_machine_id_is_an_empty_one(tmp_path: Path) -> None:
    assert machine_id(tmp_path / "none") == ""
