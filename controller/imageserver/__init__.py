"""The image server: one finished image under one unguessable URL, and nothing else.

`server` knows addresses, tokens and limits; `representation` how an image goes to the one who asks for it;
`sparse_gzip` the form in which holes cost nothing.
"""

from __future__ import annotations

from controller.imageserver.server import ImageMissing, ImageServer

__all__ = ["ImageMissing", "ImageServer"]
