"""Tests on the lab's real components."""
