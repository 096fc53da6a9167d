"""The documentation against what it documents: complete, buildable, and every example run."""
