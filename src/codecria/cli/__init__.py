"""The command line: one thin file per command, each over one function of the rooms below."""
