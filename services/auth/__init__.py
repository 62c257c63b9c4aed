"""Identity: accounts, sessions, the tokens that prove them and the keys that verify the tokens."""
