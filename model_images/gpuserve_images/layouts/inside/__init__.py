"""Files that go into images and run inside a server there; nothing here is imported by gpuserve itself."""
