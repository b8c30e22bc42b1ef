"""Thin I/O: what the core decided is carried out here, what the world says is translated here once."""
