"""Where landed files live: one small contract, and an implementation for each kind of filesystem."""
