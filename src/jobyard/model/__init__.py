"""Nouns and rules: no I/O, no await, no clock."""
