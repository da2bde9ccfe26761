"""``python -m pushforward`` is the command ``pushforward``."""

from pushforward.cli import main

if __name__ == "__main__":
    main()
