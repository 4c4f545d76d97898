"""`python -m batchsubmit`."""

from batchsubmit.cli import main

if __name__ == "__main__":
    main()
