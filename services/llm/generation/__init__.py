"""Answers from models: reading a request, asking the providers in turn, relaying what comes."""
