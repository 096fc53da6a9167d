"""The transcripts workload: speech becomes subtitles, voice and accompaniment become stems.

Its plugin is in ``plugin.py``, the HTTP contract in ``contract.py``, the stages in ``pipeline.py``.
"""
