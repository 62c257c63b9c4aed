"""The tools of this server: one file each, and a row in `registry.py`."""
