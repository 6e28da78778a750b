"""``python -m prefixdb``: the command line."""

from prefixdb.cli.main import main

if __name__ == "__main__":
    main()
