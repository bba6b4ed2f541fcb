"""The program against its peers, and against the machine's limits."""
