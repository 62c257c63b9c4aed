"""`make bench`: what our server costs per request and per token, beside the floor and its peers (DESIGN 5)."""
