"""Networks that a user would deploy instead, and random ones of ours, to time beside."""
