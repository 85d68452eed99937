"""``python -m cntgraph`` is the command ``cntgraph``."""

from cntgraph.cli import main

if __name__ == "__main__":
    main()
