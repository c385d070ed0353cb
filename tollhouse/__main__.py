"""`python -m tollhouse`."""

from tollhouse.start import main

main()
