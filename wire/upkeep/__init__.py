"""Repairs that every process takes part in."""
