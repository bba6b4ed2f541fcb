"""Sources: where rows come from, one file each."""
