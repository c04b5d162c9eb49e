"""``python -m app`` is ``countersign``."""

from app.cli.main import main

if __name__ == "__main__":
    main()
