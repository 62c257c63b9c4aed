"""The Media API: images in by URL, data or direct upload; ids out that mean them in prompts. `room.py` wires it."""
