"""Looking at what a plant publishes, and proposing a mapping for it."""
