"""What is counted, remembered and logged."""
