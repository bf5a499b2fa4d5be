"""pg-status and the programs beside it, each as its own documentation says to set it up."""
