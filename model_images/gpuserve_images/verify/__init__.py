"""Is a build as good as its source, and how fast is it."""
