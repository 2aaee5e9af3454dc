"""HTTP: one port that speaks the interfaces editors already know. Not imported by anything but the command."""
