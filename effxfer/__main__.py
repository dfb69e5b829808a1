"""`python -m effxfer` is the command `effxfer`."""

from effxfer.cli import main

main()
