"""What models there are, whose they are, where a request for one goes, and how an administrator changes that."""
