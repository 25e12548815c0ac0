"""What the machine has that the command runs on."""
