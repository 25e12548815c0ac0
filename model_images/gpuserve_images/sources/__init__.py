"""Where a model comes from: from a declared address to checked local files."""
