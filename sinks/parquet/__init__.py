"""The parquet sink: rows and origins decided together in a ledger, then published as files (landing.md)."""
