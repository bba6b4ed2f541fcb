"""One suite for every kind of ledger: SQLite always, a real PostgreSQL in the interop run."""

import itertools

import pytest

from tailrace.sinks.ledger.engine import parse_url
from tailrace.sinks.ledger.ledger import Ledger
from tests.support.postgres import running_postgres

_databases = itertools.count()


@pytest.fixture(scope="session")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return parse_url(f"sqlite:///{tmp_path}/ledger.db")
    server = request.getfixturevalue("postgres")
    return parse_url(server.create_database(f"ledger_{next(_databases)}"))


@pytest.fixture
def connect(url):
    """Makes ledgers on the same database, each as another process would."""
    made = []

    def one() -> Ledger:
        made.append(Ledger(url))
        made[-1].open("p")
        return made[-1]

    yield one
    for ledger in made:
        ledger.close()
