"""Tokens of texts, of requests and of jobs, counted or as a server tells them."""
