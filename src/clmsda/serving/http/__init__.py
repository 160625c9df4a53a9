"""The HTTP server: routes only, over the sessions of `clmsda.serving.sessions`; an extra, `clmsda[serve]`."""
