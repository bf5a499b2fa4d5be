"""The command ``pg-status`` and its subcommands."""
