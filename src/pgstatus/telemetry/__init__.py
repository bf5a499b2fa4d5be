"""What operators see of the process: counters, metrics, history, logs."""
