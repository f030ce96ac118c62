"""The training methods, one a file, and the students and teachers that they train."""
