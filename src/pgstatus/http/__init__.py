"""The HTTP server: sockets, TLS, response cache, and gunicorn's parser."""
