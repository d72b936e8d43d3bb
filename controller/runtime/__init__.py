"""The machinery of a control loop: clock, back-off, work queue, store, reflector, informer, workers.

These are client-go's ideas with client-go's promises. What may not live here: anything about virtual
machines, our own kinds, or the `kubernetes` package. Objects are plain dicts, of which only `metadata` is
looked at.
"""
