"""Networks for deployments, and the proxy by which one reaches a list of hosts."""
