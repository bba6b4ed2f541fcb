import pytest
from sqlalchemy import text

from tailrace.errors import Halt
from tailrace.sinks.ledger import engine
from tailrace.sinks.ledger.engine import (
    filesystem_of,
    is_network,
    ledger_url,
    open_engine,
    parse_url,
    show_url,
)

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/shared rw - nfs4 server:/export rw
31 30 8:2 / /mnt/shared/local rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/with\\040space rw - cifs //server/share rw
33 22 0:42 / /home/me rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/data/x.db", "ext4", False),
        ("/mnt/shared/x.db", "nfs4", True),
        ("/mnt/shared/local/x.db", "xfs", False),
        ("/mnt/sharedx/x.db", "ext4", False),
        ("/mnt/with space/x.db", "cifs", True),
        ("/home/me/state/x.db", "fuse.sshfs", True),
    ],
)
def test_the_innermost_mount_tells_the_filesystem(tmp_path, path, kind, network):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert filesystem_of(path, str(mounts)) == kind
    assert is_network(kind) == network


def test_sqlite_on_a_network_filesystem_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "filesystem_of", lambda path: "nfs4")
    with pytest.raises(Halt, match=r"network filesystem \(nfs4\).*postgresql://"):
        open_engine(parse_url(f"sqlite:///{tmp_path}/l.db"))


def test_sqlite_commits_are_on_disk_when_they_return(tmp_path):
    opened = open_engine(parse_url(f"sqlite:///{tmp_path}/a/b/l.db"))
    with opened.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    opened.dispose()


def test_the_default_is_beside_the_agents_state(tmp_path):
    assert ledger_url(None, tmp_path).database == str(tmp_path / "ledger.db")


def test_no_message_shows_a_password():
    assert "secret" not in show_url(parse_url("postgresql://me:secret@db/l"))
