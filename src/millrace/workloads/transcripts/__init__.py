"""The transcripts workload: speech becomes subtitles, voice and accompaniment become stems."""
