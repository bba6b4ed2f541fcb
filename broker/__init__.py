"""The built-in broker: wire codec, log storage, coordinators, server, and the client for it and for Kafka."""
