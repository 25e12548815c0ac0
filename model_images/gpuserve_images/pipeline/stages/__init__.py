"""The stages of a build: of each, what decides its result, and the function that makes it."""
