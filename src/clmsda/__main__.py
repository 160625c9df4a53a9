"""`python -m clmsda`, and so `torchrun -m clmsda train CONFIG`."""

from clmsda.cli import main

main()
