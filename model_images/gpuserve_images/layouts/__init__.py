"""A model as a server's own folder and configuration files."""
