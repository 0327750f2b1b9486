"""Anthropic's dialect, of `POST /v1/messages`. Pure."""
