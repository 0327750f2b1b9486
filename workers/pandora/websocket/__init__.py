"""Answers that come over an account's WebSocket."""
