"""Media Downloader: a self-hosted server that downloads media, pausable and unhurt by any crash."""

__version__ = "0.1.0"
