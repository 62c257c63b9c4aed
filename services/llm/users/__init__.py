"""What users have set, and what they see of their usage."""
