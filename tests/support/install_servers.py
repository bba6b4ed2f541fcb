"""Installs the real servers that `make interop` tests against: Apache Kafka, HDFS and PostgreSQL.

Java parts come from Maven Central into `.cache/servers/<name>-<version>/`; java, mvn and PostgreSQL come from
Debian where they are missing and we are root. Anything that cannot be had is an error, never a skip.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "servers"
KAFKA = "4.3.1"
HADOOP = "3.5.0"
_SLF4J = "org.slf4j:slf4j-simple:1.7.36"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>dev.tailrace</groupId><artifactId>servers</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies></project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def kafka_jars() -> Path:
    return _jars(
        "kafka",
        KAFKA,
        f"org.apache.kafka:kafka_2.13:{KAFKA}",
        f"org.apache.kafka:kafka-tools:{KAFKA}",
        _SLF4J,
    )


def hadoop_jars() -> Path:
    return _jars("hadoop", HADOOP, f"org.apache.hadoop:hadoop-minicluster:{HADOOP}")


def postgres_bin() -> Path:
    """The folder with initdb and postgres, newest version."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not shutil.which("initdb"):
        _apt("postgresql")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
    return found[-1].parent if found else Path(shutil.which("initdb") or "").parent


def _jars(name: str, version: str, *artifacts: str) -> Path:
    """A folder with the artifacts and all they need; made once, under its final name only when whole."""
    home = CACHE / f"{name}-{version}"
    if home.is_dir():
        return home
    if not shutil.which("java") or not shutil.which("mvn"):
        _apt("default-jre-headless", "maven")
    partial = CACHE / f"{name}-{version}.{os.getpid()}"
    partial.mkdir(parents=True)
    dependencies = "".join(_DEPENDENCY.format(*artifact.split(":")) for artifact in artifacts)
    (partial / "pom.xml").write_text(_POM.format(dependencies=dependencies))
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    subprocess.run(["mvn", "-q", "-B", plugin, "-DoutputDirectory=."], cwd=partial, check=True)
    if home.is_dir():
        shutil.rmtree(partial)
    else:
        partial.rename(home)
    return home


def _apt(*packages: str) -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"interop tests need the Debian packages {' '.join(packages)} (or their like); install them")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(install, check=True, env=environment)


if __name__ == "__main__":
    for part in (kafka_jars, hadoop_jars, postgres_bin):
        print(f"{part.__name__.split('_')[0]}: {part()}")
