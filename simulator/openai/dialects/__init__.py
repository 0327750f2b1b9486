"""Answers in the words of each dialect."""
