"""Tailrace: log pipelines defined by YAML, each row exactly once."""

import os

__version__ = "0.1.0"

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""No linear algebra here: numpy's threads for it would only spin for a tenth of a second in each process."""
