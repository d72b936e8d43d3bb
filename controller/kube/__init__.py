"""The Kubernetes API: client, watch, errors, events.

The only importer of the `kubernetes` package, whose types and exceptions do not leave it. Objects are decoded
JSON (`dict[str, Any]`). What may not live here: anything about our own kinds.
"""
