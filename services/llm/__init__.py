"""The LLM API. `chat.py` answers requests by `generation/` over `providers/`, with what `conversations/` remember;
`models/` says what there is, `users/` what they have set, `accounting/` what they used. `room.py` wires it all."""
