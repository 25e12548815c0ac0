"""The images that models are baked onto."""
