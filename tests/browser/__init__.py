"""Tests of the operators' page in a real browser, and the screenshots of the documentation."""
