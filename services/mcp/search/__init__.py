"""Search engines: each asks another service in its own words and answers in ours (`engine.py`)."""
