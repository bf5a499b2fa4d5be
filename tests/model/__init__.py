"""The verification model: a simulated cluster that knows its true histories, and what the rules
report about it.
"""
