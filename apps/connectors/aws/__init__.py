"""AWS: what its policies allow, how it is read, how access is opened and ended there. Plain Python, no Django."""
