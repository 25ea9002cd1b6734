"""`python -m fashion_infer` is the command line, for where its script is not on the path."""

from fashion_infer.cli import main

if __name__ == "__main__":
    main()
