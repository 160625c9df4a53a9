"""Routes: what the server answers, and to whom. State is kept in `clmsda.serving.sessions`."""
