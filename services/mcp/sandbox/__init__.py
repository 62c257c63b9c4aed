"""Where programs of users run: apart from the server, within limits, and never in its own processes."""
