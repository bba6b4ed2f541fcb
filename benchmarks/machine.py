"""What a figure depends on beside the code: processors, memory, kernel, and the versions of what does the work."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("pyarrow", "numpy", "crc32c", "confluent-kafka")


def machine() -> str:
    """One line: processors, memory, kernel."""
    model = _field("/proc/cpuinfo", "model name") or platform.machine()
    memory = int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, Linux {kernel}"


def versions() -> str:
    """One line: Python, and the packages at work on either side."""
    import confluent_kafka

    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"Python {platform.python_version()}, {packages} (librdkafka {confluent_kafka.libversion()[0]})"


def _field(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
