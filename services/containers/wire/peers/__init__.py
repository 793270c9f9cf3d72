"""How hub processes reach the containers of each other.

One connection carries many requests, newline-delimited JSON both ways. Its first line is the
secret of the process that listens, which reads no further without it. Over TCP nothing is
encrypted: `containers.listen` belongs on a network of which the hub's machines are the only ones.
"""
