"""One load program for all stacks: the cost of a failover, a late replica, an outage of pg-status.

``python -m bench.stacks`` (``make bench-client``) prints a table of scenarios and stacks. Each
stack is a module of this package with a function ``open_stack(place)``, see `stack`.
"""
