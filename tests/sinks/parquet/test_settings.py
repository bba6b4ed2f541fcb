import pytest
from pydantic import ValidationError

from tailrace.sinks.parquet.settings import ParquetSettings, codec


def made(**changes):
    return ParquetSettings(**{"type": "parquet", "channel": "c", "path": "data/lake/%{topic}", **changes})


def test_defaults_make_large_files_not_small_ones():
    settings = made()
    assert (settings.roll.interval, settings.roll.size, settings.memory) == (300, 128 * 2**20, 128 * 2**20)
    assert settings.weakness() is None
    assert settings.keeps_origins()
    assert "SQLite" in " ".join(settings.notes())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"path": "%{topic}/x"}, "first escape"),
        ({"ledger": "mysql://h/d"}, "no ledger on mysql"),
        ({"ledger": "data/ledger.db"}, "sqlite:///path"),
        ({"ledger": "sqlite://"}, "in memory"),
        ({"compression": "brotli"}, "zstd-1"),
        ({"compression": "zstd-99"}, "levels 1 to 22"),
        ({"roll": {"interval": 0}}, "greater than 0"),
        ({"roll": {"every": "5m"}}, "every"),
        ({"memory": 1}, "1048576"),
    ],
)
def test_wrong_settings_say_what_was_expected(changes, says):
    with pytest.raises(ValidationError, match=says):
        made(**changes)


def test_the_conditions_of_the_guarantee_are_told():
    on_hdfs = made(path="webhdfs://nn:9870/lake", ledger="postgresql://u@h/d")
    assert "synconclose" in " ".join(on_hdfs.notes())
    assert "SQLite" not in " ".join(on_hdfs.notes())


@pytest.mark.parametrize(
    ("text", "means"),
    [("none", ("none", None)), ("snappy", ("snappy", None)), ("zstd", ("zstd", 1)), ("gzip-9", ("gzip", 9))],
)
def test_compression_has_a_level_where_the_codec_has_one(text, means):
    assert codec(text) == means
