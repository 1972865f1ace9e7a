"""A media site of our own on loopback: real media, and every way in which a server can misbehave."""
