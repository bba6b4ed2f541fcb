"""Kafka's wire format: messages, record batches and records. Bytes in, values out; no I/O."""
