"""The files that come with a request: decoded, or fetched from where its URLs point."""
