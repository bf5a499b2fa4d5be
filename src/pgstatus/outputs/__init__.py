"""Outputs for changes of the cluster: a command, a file, the service manager."""
