"""What groups and transactions decide: pure and deterministic. The asyncio side is in broker/api."""
