"""Django database backend, router and middleware that follow the cluster."""
