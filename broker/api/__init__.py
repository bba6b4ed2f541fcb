"""One file for each API key: its versions registered beside the code that answers them."""
