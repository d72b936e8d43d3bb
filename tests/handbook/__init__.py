"""Makes the pages of `docs` that are lists: of fields, from the CRDs, and of reasons, from the code.

`python -m tests.handbook` writes them; a test compares, so that they cannot drift.
"""
