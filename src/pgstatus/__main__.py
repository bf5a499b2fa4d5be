"""``python -m pgstatus`` is the command ``pg-status``."""

import sys

from pgstatus.cli.main import main

sys.exit(main())
