import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.sinks.parquet.template import LAST_MS, MISSING, escape, parse_template

NOON = 1_763_899_199_123  # 2025-11-23T11:59:59.123Z


@pytest.mark.parametrize(
    ("text", "root", "directory"),
    [
        ("data/lake", "data/lake", ""),
        ("data/lake/", "data/lake", ""),
        ("/lake/%{topic}/dt=%Y-%m-%d/hour=%H", "/lake", "T/dt=2025-11-23/hour=11"),
        ("/lake/logs-%Y/%j", "/lake", "logs-2025/327"),
        ("/lake/%s/", "/lake", "1763899199"),
        ("/lake/100%%/%y%m%dT%H%M%S", "/lake/100%", "251123T115959"),
        ("webhdfs://nn:9870/lake/%{topic}", "/lake", "T"),
        ("file:///lake/%H", "/lake", "11"),
    ],
)
def test_a_template_splits_into_its_root_and_what_rows_decide(text, root, directory):
    template = parse_template(text)
    assert template.location.path == root
    assert template.directory(NOON, {"topic": "T"}) == directory


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("%{topic}/x", "in front of the first escape"),
        ("/%{topic}/x", "in front of the first escape"),
        ("/", "in front of the first escape"),
        ("webhdfs://nn:9870/%Y", "in front of the first escape"),
        ("hdfs://nn:8020/lake/%Y", "webhdfs://"),
        ("s3://bucket/%Y", "no store for s3"),
        ("webhdfs://nn/lake", "host:port"),
        ("file://host/lake", "file:///"),
        ("~/lake/%Y", "env:HOME"),
        ("/lake/%Q", "unknown escape %Q"),
        ("/lake/%", "unknown escape"),
        ("/lake/%{}", "header's name"),
        ("/lake/%{a}/../x", "`..`"),
        ("/lake/%Y//x", "empty"),
        ("/lake/_staging%{a}", "Tailrace's own"),
        ("/lake/.%{a}", "Tailrace's own"),
        ("/lake/%{a}/\n", "control"),
    ],
)
def test_a_template_that_cannot_work_says_what_is_wrong(text, says):
    with pytest.raises(ValueError, match=says.replace("(", "\\(").replace("{", "\\{")):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("/l/%Y", 86_400_000),
        ("/l/%Y-%m-%d/%H", 3_600_000),
        ("/l/%M", 60_000),
        ("/l/%s", 1000),
        ("/l/%{a}", None),
    ],
)
def test_the_step_is_the_finest_escape_of_time(text, step):
    assert parse_template(text).step_ms == step


@given(st.binary(max_size=400))
def test_no_value_can_leave_its_part_of_the_path_or_pose_as_ours(value):
    template = parse_template("/lake/%{h}/x%{h}/y")
    directory = template.directory(NOON, {"h": escape(value)})
    parts = directory.split("/")
    assert len(parts) == 3
    assert posixpath.normpath(f"/lake/{directory}") == f"/lake/{directory}"
    assert parts[0][0] not in "._"
    assert all(len(part) <= 200 and part.isprintable() for part in parts)


@given(st.sets(st.binary(max_size=300), min_size=2, max_size=8))
def test_different_values_have_different_paths(values):
    values = {value or b"?" for value in values}
    assert len({escape(value) for value in values}) == len(values)


def test_a_missing_header_is_null_to_readers_and_never_hidden_from_them():
    template = parse_template("/lake/%{a}/b=%{b}")
    assert template.directory(0, {"a": escape(None), "b": escape(b"")}) == f"~missing/b={MISSING}"
    assert escape(MISSING.encode()) != MISSING
    assert escape(b"~missing") != "~missing"


def test_the_last_moment_has_a_path():
    assert parse_template("/lake/%Y/%S").directory(LAST_MS, {}) == "9999/59"
