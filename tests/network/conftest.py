"""Only collected inside the namespace that ``tests/system/test_network.py`` makes."""

import os

collect_ignore_glob = [] if os.environ.get("PGSTATUS_IN_NAMESPACE") else ["test_*.py"]
