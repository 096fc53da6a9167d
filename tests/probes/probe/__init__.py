"""A workload for tests of the server: its stages do as their items say."""
