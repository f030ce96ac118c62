"""The training methods, one per file, with their students and teachers."""
