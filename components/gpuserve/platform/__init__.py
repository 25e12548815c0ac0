"""`Platform`: everything of one environment, composed from one validated config object."""
