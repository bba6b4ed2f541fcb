"""The client for Kafka's protocol: columnar producer and fetcher, groups, transactions, administration."""
