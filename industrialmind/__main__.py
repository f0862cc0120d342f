"""`python -m industrialmind`: how `up` starts its processes."""

from industrialmind.cli import main

main()
