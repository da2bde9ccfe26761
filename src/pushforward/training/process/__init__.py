"""The processes of a run: how many there are, and their memory, precision, random generators and interrupts."""
