"""Conversations, their items and turns; projects that hold them, shares that show them."""
