"""Tests that break the network. They run in a network namespace of their own, as root.

``tests/system/test_network.py`` starts them there.
"""
