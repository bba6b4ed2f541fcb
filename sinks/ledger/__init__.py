"""The ledger: which positions are in which files, decided in one transaction (landing.md)."""
