"""What a run consists of and what it costs, known before anything runs."""
