"""A campaign of failures against a real cluster, and what pg-status says meanwhile.

``make chaos`` runs it; see ``docs/failover.md``.
"""
