"""clmsda beside its peers on the same CTs and the same machine, in one run: see `__main__`."""
