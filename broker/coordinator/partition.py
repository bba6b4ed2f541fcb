"""Which partition of an internal topic has a group or a transactional id: Kafka's hash, so Kafka's layout."""


def coordinator_partition(key: str, partitions: int) -> int:
    """As Kafka's `Utils.abs(key.hashCode()) % partitions`: Java's hash, its least int taken as 0."""
    value = 0
    units = key.encode("utf-16-be", "surrogatepass")
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (31 * value + (high << 8 | low)) & 0xFFFFFFFF
    if value >= 1 << 31:
        value = (1 << 32) - value
    return (0 if value == 1 << 31 else value) % partitions
