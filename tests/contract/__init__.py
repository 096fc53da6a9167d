"""One file per HTTP contract, driven through a real server."""
