"""Requests that are relayed to an OpenAI-compatible server as they are, and its answers. Pure."""
