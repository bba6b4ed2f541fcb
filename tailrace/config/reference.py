"""The pages of docs/reference, all made from the settings models: `make docs` writes them, a test holds them current."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tailrace import registry
from tailrace.config.describe import SECTIONS, page, section_page

_KINDS: tuple[registry.Kind, ...] = ("source", "channel", "sink")


def pages() -> dict[str, str]:
    """Markdown by file name: a page for each component and section, and README.md that lists them."""
    components = {f"{name}-{kind}.md": page(kind, name) for kind in _KINDS for name in registry.types(kind)}
    sections = {f"{name}-section.md": section_page(name) for name in SECTIONS}
    made = sections | components
    return {"README.md": "".join(f"{line}\n" for line in _index(made)), **made}


def _index(made: dict[str, str]) -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Made by `make docs` from the settings themselves; `tailrace describe NAME` prints the same."
    yield ""
    for name, text in made.items():
        title, _, rest = text.partition("\n")
        summary = rest.strip().partition("\n")[0]
        yield f"- [{title.removeprefix('# ')}]({name}): {summary}"


def main(folder: Path) -> None:
    """Writes the pages, and takes away those of components that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for name, text in made.items():
        (folder / name).write_text(text)
    for path in folder.glob("*.md"):
        if path.name not in made:
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
