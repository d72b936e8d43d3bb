"""The real components that tests and the demo run on: built once, started on loopback, ended cleanly.

Every component is a context manager, picks free ports, writes its logs below a temporary directory of its own
and dies with the process that started it. Nothing here is imported by the controller.
"""
