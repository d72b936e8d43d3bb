"""Whole imports, on real parts."""
