"""docs/reference says what the settings say."""

from pathlib import Path

from tailrace.config.reference import main, pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def test_the_committed_pages_are_current() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == pages(), "`make docs` writes them anew"


def test_pages_of_what_is_no_more_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "avro-sink.md").write_text("# avro sink\n")
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(pages())
    assert "](tail-source.md): Follows files" in (tmp_path / "README.md").read_text()
