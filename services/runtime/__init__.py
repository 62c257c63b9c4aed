"""What every room needs and that knows no room: configuration, server assembly, errors, identity, persistence."""
