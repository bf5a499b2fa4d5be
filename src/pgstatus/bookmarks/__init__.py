"""Read-your-writes for applications: the position of a write, and how a client carries it."""

from pgstatus.bookmarks.bookmark import Bookmark

__all__ = ["Bookmark"]
