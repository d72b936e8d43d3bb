"""The words of our custom resources: names, phases, condition types and typed views. Pure data."""
