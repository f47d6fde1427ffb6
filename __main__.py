"""``python -m imgcat``."""

import sys

from .cli.main import run

sys.exit(run())
