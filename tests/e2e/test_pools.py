"""Gateway keys on the accounts of the operator at Pandora-Next, some of which fail."""
