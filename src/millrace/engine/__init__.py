"""What a job is and how it moves: durable, on one machine or many.

Knows no HTTP, no media and no workload; imports nothing of ours but the errors.
"""
