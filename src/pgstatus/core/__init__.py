"""The rules: pure functions over immutable values."""
