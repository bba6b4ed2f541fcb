"""The local filesystem really asks the kernel to sync: the power cuts of tests/crash stand on it."""

import errno
import os

import pytest

from tailrace.fs import LocalFileSystem


def check_that_the_kernel_is_asked() -> None:
    """By syncing what cannot be synced: only the kernel knows, so nobody else can say so."""
    fs = LocalFileSystem()
    fd = os.open("/dev/null", os.O_WRONLY)
    try:
        for sync, what in ((fs.fsync, fd), (fs.fsync, "/dev/null"), (fs.fsync_dir, "/proc")):
            with pytest.raises(OSError) as refused:
                sync(what)
            assert refused.value.errno == errno.EINVAL
    finally:
        os.close(fd)


def test_the_kernel_is_asked_to_sync() -> None:
    check_that_the_kernel_is_asked()
