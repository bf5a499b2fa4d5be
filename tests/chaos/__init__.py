"""A campaign of failures of a real cluster, and a verdict on what pg-status reports meanwhile.

``make chaos`` runs it; see ``docs/failover.md``.
"""
