"""YAML as the configuration reads it: version 1.2, bounded, no surprises."""
# ruff: noqa: E501 - one case a line reads better

import math
from itertools import pairwise
from pathlib import Path

import pytest

from tailrace.config import load as loading
from tailrace.config.load import load, parse
from tailrace.errors import ConfigError


def data(text: str, **environ: str) -> object:
    return parse(text, "x.yaml", environ).data


def mistakes(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", environ)
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("true", True), ("FALSE", False), ("'true'", "true"),
        ("~", None), ("", None), ("null", None), ("12", 12), ("+5", 5), ("-5", -5), ("012", 12), ("0o17", 15), ("0x1F", 31),
        ("1_000", "1_000"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("1e3", 1000.0), ("1.10", 1.1), (".5", 0.5),
        (".inf", math.inf), ("-.INF", -math.inf), (".", "."), ("64MiB", "64MiB"), ("!!str 12", "12"), ('"1"', "1"),
        ("!!int '3'", 3), ("[a, 1]", ["a", 1]),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert data(f"a: {text}") == {"a": value}
    assert type(data(f"a: {text}")["a"]) is type(value)  # type: ignore[index]


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(data("a: .nan")["a"])  # type: ignore[index]


def test_keys_are_text_whatever_they_look_like() -> None:
    assert data("on: 1\n1: 2\nnull: 3\n") == {"on": 1, "1": 2, "null": 3}


def test_an_empty_file_is_nothing() -> None:
    assert data("# only a comment\n") is None


def test_duplicate_keys_are_refused_each_with_the_line_of_the_first() -> None:
    assert mistakes("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        "x.yaml:2:11: 'c' is here twice: first on line 2",
        "x.yaml:3:1: 'a' is here twice: first on line 1",
    ]


def test_merges_fill_in_what_a_mapping_lacks() -> None:
    text = "x: &x {p: 1, q: 2}\ny: {<<: *x, q: 3}\nz: {<<: [*x, {p: 9, r: 4}]}\n"
    assert data(text) == {"x": {"p": 1, "q": 2}, "y": {"q": 3, "p": 1}, "z": {"p": 1, "q": 2, "r": 4}}


def test_a_merge_of_a_mapping_with_itself_is_refused() -> None:
    assert mistakes("x: &x {p: 1, <<: *x}") == ["x.yaml:1:4: an alias to something around itself"]


def test_an_alias_to_something_around_itself_is_refused() -> None:
    assert mistakes("a: &x [*x]") == ["x.yaml:1:4: an alias to something around itself"]


@pytest.mark.parametrize(
    "inner", ["[*{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}]", "{{<<: [*{0}, *{0}, *{0}, *{0}]}}"]
)
def test_aliases_cannot_grow_without_bound(inner: str) -> None:
    first = "[x, x]" if inner.startswith("[") else "{x: 1}"
    names = "abcdefghijklmnopqr"
    lines = [f"a: &a {first}"] + [
        f"{name}: &{name} {inner.format(before)}" for before, name in pairwise(names)
    ]
    (mistake,) = mistakes("\n".join(lines))
    assert f"more than {loading.MAX_VALUES} values" in mistake


@pytest.mark.parametrize("text", ["a: " + "[" * 20_000, "a: " + "[" * 3000 + "]" * 3000])
def test_deep_nesting_is_a_mistake_and_not_a_crash(text: str) -> None:
    assert mistakes(text) == ["x.yaml:1:1: nested too deeply"]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [x]", "!foo {}", "!!binary aGVsbG8=", "!!timestamp 2020-01-01", "!!set {a}"])  # fmt: skip
def test_tags_beyond_the_core_schema_are_refused(tag: str) -> None:
    (mistake,) = mistakes(f"a: {tag}")
    assert mistake.startswith("x.yaml:1:4: the tag ") and mistake.endswith(" is not allowed")


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: [1\nb: 2", "2:2"), ("--- 1\n--- 2", "2:1"), ("? [a]\n: b", "1:3"), ("\ta: 1", "1:1"), ("a: *b", "1:4"), ("a: 1\nb: \x07", "2:1")],
)  # fmt: skip
def test_broken_yaml_is_one_mistake_at_its_place(text: str, place: str) -> None:
    (mistake,) = mistakes(text)
    assert mistake.startswith(f"x.yaml:{place}: ")


def test_a_number_too_long_for_python_is_a_mistake() -> None:
    (mistake,) = mistakes("a: " + "9" * 5000)
    assert mistake.startswith("x.yaml:1:4: a: '999")


def test_references_are_replaced_inside_scalars_and_never_become_structure(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p{s}: ${env:X}\n")
    text = f"""
a: ${{env:X}}
b: "<${{env:NONE:-a: b}}>"
c: ${{file:{secret}}}
d: $${{env:X}}
e: ${{env:EMPTY:-full}}${{env:EMPTY}}
f: $5 and $(x)
"""
    assert data(text, X="[1, 2]", EMPTY="") == {
        "a": "[1, 2]",
        "b": "<a: b>",
        "c": "p{s}: ${env:X}",
        "d": "${env:X}",
        "e": "full",
        "f": "$5 and $(x)",
    }


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("${env:NO}", "the environment variable NO is not set; ${env:NO:-default} gives a default"),
        ("${env:no such}", "'no such' is not the name of an environment variable"),
        ("${HOME}", "unknown reference '${HOME}': expected ${env:NAME}"),
        ("${command:ls}", "unknown reference '${command:ls}'"),
        ("'${env:X'", "'${env:X' has no closing brace"),
        ("${file:/nowhere/at/all}", "/nowhere/at/all cannot be read: No such file or directory"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_mistake(reference: str, said: str) -> None:
    (mistake,) = mistakes(f"a:\n  - {reference}", X="")
    assert mistake.startswith("x.yaml:2:5: a[0]: ") and said in mistake


def test_a_binary_or_huge_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"x" * 100_000)
    assert "does not hold UTF-8 text" in mistakes(f"a: ${{file:{tmp_path}/binary}}")[0]
    assert "more than 65536 bytes" in mistakes(f"a: ${{file:{tmp_path}/huge}}")[0]


def test_all_mistakes_are_found_at_once() -> None:
    assert len(mistakes("a: ${env:A}\nb: ${env:B}\nb: !x y\n")) == 3
    assert len(mistakes("a: ${env:A}\nb: ${env:B}\nc: !x y\nc: 2\n")) == 4


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes(b"a: 1\nbb: \xe9\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * (loading.MAX_FILE + 1))
    for name, said in [("none.yaml", ":1:1: cannot be read: No such file"), ("latin1.yaml", ":2:5: expected UTF-8"), ("large.yaml", ":1:1: larger than")]:  # fmt: skip
        with pytest.raises(ConfigError, match=f"{name}{said}"):
            load(str(tmp_path / name))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load(str(tmp_path / "a.yaml")).data == {"a": 1}
