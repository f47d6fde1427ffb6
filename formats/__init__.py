"""Image formats: stored bytes in, guest extents out.

A library of its own: it knows no database, no event loop and no command line.
"""
