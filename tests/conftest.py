"""What holds for every test, and for every process a test starts."""

import os

# As `python -m train` has it: before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
