"""MCP Tools: search, scrape, file search and python over the Model Context Protocol and gRPC. `registry.py` has all
tools, those of `builtin/` and those of other servers (`bridge.py`); `mcp.py` and `tools.py` are its two doors."""
