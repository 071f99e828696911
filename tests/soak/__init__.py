"""Hours of everything at once: workers, faults, kills and overwriters on one catalog, and a constant audit.

`python -m soak --minutes 10`, with this folder's parent on the path, which is what `make soak` does.
"""
