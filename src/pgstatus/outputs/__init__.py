"""Where changes of the cluster are reported to: a command, a file, the service manager."""
