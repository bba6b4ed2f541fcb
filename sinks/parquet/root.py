"""The root of a table: the directory that no row can leave, and the marker in it that names its ledger.

With an empty or another ledger everything would land a second time; the marker tells before it happens.
"""

import json

from tailrace.errors import Halt
from tailrace.sinks.ledger.ledger import Ledger
from tailrace.sinks.parquet.names import MARKER, join
from tailrace.sinks.stores.store import Store

_LIMIT = 4096


def claim_root(store: Store, root: str, ledger: Ledger) -> None:
    """Opens the store at `root`; the files there are this ledger's. Raises Halt, OSError."""
    store.open(root)
    place = join(root, MARKER)
    text = store.read(place, _LIMIT)
    if text is None:
        if ledger.has_files_under(store.url(root)):
            raise Halt(
                f"{store.url(root)}: ledger {ledger.place} has files there, but {MARKER} is missing: is the "
                f"volume mounted? If it was emptied on purpose, put {MARKER} back: "
                f'{{"ledger": "{ledger.uuid}"}}'
            )
        mine = json.dumps({"ledger": ledger.uuid}).encode() + b"\n"
        text = mine if store.create(place, mine) else store.read(place, _LIMIT)
    owner = _owner(text)
    if owner != ledger.uuid:
        raise Halt(
            f"{store.url(root)}: its files belong to ledger {owner or 'unknown'}, and {ledger.place} is "
            f"{ledger.uuid}: going on would land rows a second time. Use that ledger, or another `path:`"
        )


def _owner(text: bytes | None) -> str | None:
    try:
        found = json.loads(text or b"")
    except ValueError:
        return None
    owner = found.get("ledger") if isinstance(found, dict) else None
    return owner if isinstance(owner, str) else None
