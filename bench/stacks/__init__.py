"""One load program for all stacks: what a failover, a late replica and an outage of pg-status cost.

``python -m bench.stacks`` (``make bench-client``) prints a table of scenarios and stacks. Each stack
is a module of this package with a function ``open_stack(place)``, see `stack`.
"""
