"""Runs the command line: python -m media_downloader."""

from media_downloader.cli import main

if __name__ == "__main__":
    main()
