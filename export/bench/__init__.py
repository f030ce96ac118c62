"""Speed of the packed network beside what a user would deploy instead."""
