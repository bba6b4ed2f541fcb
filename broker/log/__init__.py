"""The partition log in Kafka's on-disk format: storage of the broker, and of the `file` channel."""
