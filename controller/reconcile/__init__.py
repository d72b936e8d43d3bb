"""Reconcilers: one pass over one object, and the only code that writes status."""
