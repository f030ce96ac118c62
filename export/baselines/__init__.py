"""Makes networks for timing: the baselines that a user could deploy instead of ours, and random ReActNets."""
