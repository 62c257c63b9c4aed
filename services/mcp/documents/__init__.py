"""The texts that users have had indexed, and how a question finds passages of them."""
