"""Evidence through NATS. Only this package imports nats-py, and only a configuration with NATS
imports this package.

A watcher puts its evidence into a JetStream key-value bucket, one key for each cluster and watcher.
A put is a publication on the subject of the key, so relays subscribe to the subjects: an update
arrives in one hop, even while the bucket cannot store it. What the bucket holds is read once for
each connection.
"""
