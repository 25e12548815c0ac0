"""The stages in order, done once per content key."""
