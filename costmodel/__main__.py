"""`python -m costmodel` is the command line."""

from costmodel.cli import main

if __name__ == "__main__":
    main()
