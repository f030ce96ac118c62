"""What the machine is, and what state it is in."""
