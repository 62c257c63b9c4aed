"""Who used how many tokens of which model."""
