"""Commands of `python -m app`, each a module with a `main` that takes its arguments."""
